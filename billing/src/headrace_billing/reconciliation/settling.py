"""Settling what can't be mended: two people have looked at it, nothing is posted for it, and it stays on record."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound


class Matter(StrEnum):
    CONFLICT = "conflict"
    """An event came twice with different content: the first one counts, and stays."""
    QUARANTINED = "quarantined"
    """Something could not be stored: nobody is charged for it."""
    TAX_NOT_TOLD = "tax_not_told"
    """Whoever reckoned the tax would not be told of it: somebody has told by hand, or knows why not."""


class SettlementNeedsTwo(BillingError):
    """Who settles a matter can't confirm it, too."""

    code = "settlement_needs_two"

    def __init__(self) -> None:
        super().__init__("declared_by and confirmed_by must be two people.")


@dataclass(frozen=True, slots=True)
class Settlement:
    kind: Matter
    id: str
    """As the report names it."""
    reason: str
    declared_by: str
    confirmed_by: str
    declared_at: datetime


async def settle(session: AsyncSession, settlement: Settlement) -> None:
    """Raises `SettlementNeedsTwo` and, where nothing of that kind is open by that id, `NotFound`."""
    if settlement.declared_by.casefold() == settlement.confirmed_by.casefold():
        raise SettlementNeedsTwo
    if (await session.execute(SELECTS[settlement.kind], {"id": settlement.id})).first() is None:
        raise NotFound(settlement.kind.value, settlement.id)
    await session.execute(
        INSERT,
        {
            "kind": settlement.kind,
            "id": settlement.id,
            "reason": settlement.reason,
            "declared_by": settlement.declared_by,
            "confirmed_by": settlement.confirmed_by,
            "at": settlement.declared_at,
        },
    )


SELECT_CONFLICT = text("SELECT 1 FROM usage_conflicts WHERE id::text = :id")

# Named by the id that could be made out, or else by its digest.
SELECT_QUARANTINED = text("""
    SELECT 1 FROM usage_quarantine
    WHERE encode(sha256, 'hex') = :id OR position(convert_to(:id, 'UTF8') IN raw) > 0 LIMIT 1
""")

SELECT_UNTOLD = text("SELECT 1 FROM tax_filings WHERE id = :id AND state = 'refused'")

SELECTS = {
    Matter.CONFLICT: SELECT_CONFLICT,
    Matter.QUARANTINED: SELECT_QUARANTINED,
    Matter.TAX_NOT_TOLD: SELECT_UNTOLD,
}

INSERT = text("""
    INSERT INTO declared_settled (kind, id, reason, declared_by, confirmed_by, declared_at)
    VALUES (:kind, :id, :reason, :declared_by, :confirmed_by, :at)
""")
