"""`headrace demo`: the stack up, the story told, its figures shown and kept in `demo.json`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from headrace_platform.demo.checks import ClaimFailed
from headrace_platform.demo.result import DemoResult
from headrace_platform.demo.run import Demo
from headrace_platform.demo.seller import BillingRefused
from headrace_platform.local.cli import StateOption, fail, stack_at
from headrace_platform.local.problems import StackProblem
from headrace_platform.local.progress import progress_for
from headrace_platform.local.stack import Stack

console = Console()
complaints = Console(stderr=True)

TOLD = {
    "accounts": "opening accounts: a price book, an organisation, credit, keys",
    "requests": "requests: plain, streamed, one hung up, eight at once, one that can't be paid",
    "outcomes": "selling outcomes: one solved task, one that fails its verification",
    "close": "closing the period: reconciliation, invoice, PDF",
    "kill": "killing the gateway in the middle of a stream, and starting it again",
    "books": "auditing the books",
}


def demo(
    state: StateOption = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack up, and print its addresses and the key.")
    ] = False,
) -> None:
    """From an API key to a reconciled invoice on real parts; exit status 1 if anything does not hold."""
    stack = stack_at(state)
    story = Demo(stack, say=lambda phase: console.print(f"[bold]·[/] {TOLD[phase]}", highlight=False))
    began = time.monotonic()
    reason: str | None = None
    try:
        try:
            console.print("[bold]·[/] headrace up", highlight=False)
            stack.start(progress=progress_for(console))
            story.result.seconds["up"] = round(time.monotonic() - began, 2)
            story.run()
        finally:
            if not keep:
                stopping = time.monotonic()
                stack.stop()
                story.result.seconds["down"] = round(time.monotonic() - stopping, 2)
    except (ClaimFailed, BillingRefused) as failure:
        reason = str(failure)
    except StackProblem as problem:
        fail(problem)
    story.result.seconds["total"] = round(time.monotonic() - began, 2)
    story.result.write(stack.state / "demo.json")
    show(story.result, stack.state)
    if reason is not None:
        complaints.print(f"\nThis does not hold: {reason}", style="bold red", markup=False, soft_wrap=True)
        complaints.print(f"The logs are in {stack.state / 'logs'}.", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"\nAll {len(story.claims.seen)} claims hold.", style="bold green", highlight=False)
    if keep:
        show_addresses(stack, story.api_key)


def show(result: DemoResult, state: Path) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    named = ", ".join(f"{name} {tokens}" for name, tokens in result.named_differences.items()) or "none"
    rows = [
        ("requests admitted", str(result.requests), ""),
        ("engine yielded", str(result.engine_tokens), "tokens, by the replica's own record"),
        ("billed", str(result.billed_tokens), "tokens in usage events"),
        ("named differences", str(sum(result.named_differences.values())), named),
        ("outcomes", f"{result.outcomes_accepted} + {result.outcomes_rejected}", "accepted + rejected"),
        ("invoiced", f"{result.invoice_total} {result.currency}", ", ".join(result.invoices)),
        ("ledger sum", result.ledger_sum, "of every posting"),
        ("unreconciled", str(result.unreconciled), ""),
        ("seconds", f"{result.seconds.get('total', 0):.0f}", f"up {result.seconds.get('up', 0):.0f}"),
    ]
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print(
        f"\nFigures: {state / 'demo.json'}   invoices: {state / 'invoices'}", soft_wrap=True, highlight=False
    )


def show_addresses(stack: Stack, api_key: str | None) -> None:
    endpoints = stack.endpoints()
    console.print("\nThe stack is up. `headrace down` stops it.", highlight=False)
    console.print(f"  OPENAI_BASE_URL={endpoints.gateway_url}/v1", highlight=False, soft_wrap=True)
    console.print(f"  OPENAI_API_KEY={api_key}", highlight=False, soft_wrap=True)
    console.print(
        f"  model {endpoints.model}   billing {endpoints.billing_url}", highlight=False, soft_wrap=True
    )
