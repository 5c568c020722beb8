"""No period is invoiced before it is reconciled: the requests of it and of what comes late to it, and the books."""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.usage_store import Closing, Whose
from headrace_billing.reconciliation.many import Lookout, plainly_green
from headrace_billing.reconciliation.reconciling import reconcile
from headrace_billing.reconciliation.report import Report, Scope
from headrace_billing.reconciliation.request import Graces, Status

CULPRITS_SHOWN_MAX = 20


class NotReconciled(BillingError):
    """Requests or books of the organisation do not add up; the members name the culprits."""

    code = "reconciliation_red"

    def __init__(self, report: Report) -> None:
        super().__init__(
            "The period is not invoiced until it is reconciled: see `unreconciled` and GET /v1/reconciliation."
        )
        document = report.document()
        self.members: dict[str, Any] = {
            "reasons": document["reasons"],
            "unreconciled": document["unreconciled"][:CULPRITS_SHOWN_MAX],
        }


class NotReconciledYet(NotReconciled):
    """Nothing is wrong, but records of some requests are still on their way."""

    code = "reconciliation_pending"


async def refusals(
    session: AsyncSession,
    every: Sequence[Closing],
    *,
    now: datetime,
    graces: Graces,
    lookout: Lookout | None,
) -> dict[Whose, BillingError]:
    """Whose period can't be invoiced, and why. `session` must see one moment.

    Of many, those with whom all is plain are passed together.
    """
    scopes = {closing.whose: _scope(closing) for closing in every}
    passed: set[str] = set()
    if len(every) > 1:
        widest = _widest(list(scopes.values()))
        start, end = min(one.start for one in widest), max(one.end for one in widest)
        seen = await (lookout or Lookout()).suspects(session, start=start, end=end)
        passed = await plainly_green(session, widest, seen)
    refused: dict[Whose, BillingError] = {}
    for whose, scope in scopes.items():
        if whose.organization not in passed:
            report = await reconcile(session, scope, now=now, graces=graces)
            if report.status is Status.RED:
                refused[whose] = NotReconciled(report)
            elif report.status is Status.PENDING:
                refused[whose] = NotReconciledYet(report)
    return refused


def _scope(closing: Closing) -> Scope:
    """Late usage goes onto this invoice, too, so it is reconciled with the rest."""
    months = (datetime.combine(month, time(), UTC) for month in closing.months)
    start = min([closing.period.start, *months])
    return Scope(closing.whose.organization, start, closing.period.end)


def _widest(scopes: Sequence[Scope]) -> list[Scope]:
    """One an organisation, which may have books in several currencies."""
    found: dict[str | None, Scope] = {}
    for one in scopes:
        known = found.get(one.organization, one)
        found[one.organization] = Scope(
            one.organization, min(one.start, known.start), max(one.end, known.end)
        )
    return list(found.values())
