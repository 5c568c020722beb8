"""`headrace reconcile`: does all that engines yielded stand in events, rollups, ratings, ledger, invoices and at Stripe?

Exit status: 0 nothing is red, 1 something is or nothing could be asked, 2 the command was not understood.
"""

import sys
from typing import Annotated, NoReturn

import httpx2
import msgspec
import typer
from rich.console import Console

from headrace_contracts.endpoints import Endpoints
from headrace_platform.local.cli import StateOption, fail, stack_at
from headrace_platform.local.problems import StackProblem
from headrace_platform.reconciliation.picture import show
from headrace_platform.reconciliation.stages import Stages, decode_stages

# A look reads some days of usage.
TIMEOUT_SECONDS = 120.0

console = Console()


class BillingUnasked(StackProblem):
    """Billing did not answer, or not with what it should."""

    code = "billing_unasked"


def reconcile(
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look at every stage from the engine to Stripe now; exit status 1 if one is red."""
    try:
        seen = look(stack_at(state).endpoints())
    except StackProblem as problem:
        fail(problem)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(seen), indent=2).decode() + "\n")
    else:
        show(console, seen)
    raise typer.Exit(1 if seen.status == "red" else 0)


def look(endpoints: Endpoints) -> Stages:
    """Raises `BillingUnasked`."""
    try:
        answer = httpx2.post(
            f"{endpoints.billing_url}/v1/reconciliation/looks",
            headers={"authorization": f"Bearer {endpoints.admin_token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,  # a proxy has no business between two programs of one machine
        )
    except httpx2.HTTPError as error:
        _unasked(f"Billing at {endpoints.billing_url} does not answer: {type(error).__name__}.")
    if answer.is_error:
        _unasked(f"Billing answered {answer.status_code}: {answer.text[:200]}")
    try:
        return decode_stages(answer.content)
    except msgspec.MsgspecError as error:
        _unasked(f"Billing's answer is none that this version knows: {error}")


def _unasked(what: str) -> NoReturn:
    raise BillingUnasked(what, next_step="See `headrace status`, and `headrace logs billing-api`.")
