"""What can wait for a second member, and how it is done once that member agrees.

An operation asks with `ask_if_needed`, and has its action here under the same name.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.approvals.approval import Approval
from headrace_billing.contracts import level_http
from headrace_billing.invoicing import correction_http
from headrace_billing.ledger import credit_http
from headrace_billing.parts import Parts


@dataclass(frozen=True, slots=True)
class Action:
    do: Callable[[AsyncSession, Approval, str, datetime], Awaitable[Mapping[str, Any]]]
    """In the transaction that records who agrees and when; what it gives is the approval's result."""
    tell: Callable[[Parts, Mapping[str, Any]], Awaitable[None]]
    """What must be pushed at once after it stands, by the result."""


async def _nothing_to_tell(_: Parts, __: Mapping[str, Any]) -> None:
    """No gateway goes by it."""


ACTIONS: Mapping[str, Action] = {
    "reverse_service_credit": Action(level_http.reverse_as_agreed, _nothing_to_tell),
    "grant_credit": Action(credit_http.grant_as_agreed, credit_http.tell_granted),
    "credit": Action(correction_http.credit_as_agreed, _nothing_to_tell),
    "void": Action(correction_http.credit_as_agreed, _nothing_to_tell),
    "write_off": Action(correction_http.write_off_as_agreed, _nothing_to_tell),
}
