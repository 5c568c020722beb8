"""What an operation does first that may need a second member: it asks, or it learns that nobody needs to be asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypeIs

from headrace_billing.approvals import store
from headrace_billing.approvals.approval import Wanted
from headrace_billing.approvals.documents import Waiting, approval_document

WAITS: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "More than the seller's bound: nothing was done yet, and the `approval` waits for a second member."
    }
}
"""For `responses` of the route."""


async def ask_if_needed(session: AsyncSession, wanted: Wanted, *, by: str, at: datetime) -> Waiting | None:
    """The answer while a second member must agree; null where nobody must. Without a bound nobody has to."""
    if not await store.needed(session, wanted):
        return None
    approval = await store.ask(session, wanted, by=by, at=at)
    return {"approval": approval_document(approval, now=at)}


def waits(answer: Mapping[str, Any]) -> TypeIs[Waiting]:
    """Whether an answer is such a one: its status is 202."""
    return "approval" in answer
