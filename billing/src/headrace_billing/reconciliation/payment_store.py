"""Payments of customers that Stripe's books and ours disagree on, as the last comparison with Stripe left them."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.reconciliation.report import Scope

CULPRITS_MAX = 1_000
"""The report is red with one of them."""


@dataclass(frozen=True, slots=True)
class PaymentDifference:
    id: str
    reason: str


async def differences(session: AsyncSession, scope: Scope) -> list[PaymentDifference]:
    """Those of the scope; what can't be told whose it is, is nobody's, and seen only where all are asked for."""
    rows = await session.execute(
        SELECT, {"org": scope.organization, "start": scope.start, "end": scope.end, "limit": CULPRITS_MAX}
    )
    return [PaymentDifference(row.id, row.reason) for row in rows]


SELECT = text("""
    SELECT id, reason FROM payment_differences
    WHERE resolved_at IS NULL AND (CAST(:org AS text) IS NULL OR org = :org)
      AND booked_at >= :start AND booked_at < :end
    ORDER BY booked_at, id LIMIT :limit
""")
