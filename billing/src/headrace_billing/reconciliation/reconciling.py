"""Making a report from one snapshot of the books."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.reconciliation import books_store, payment_store, store
from headrace_billing.reconciliation.books import Check, count_checks, money_checks
from headrace_billing.reconciliation.report import Culprit, Report, Scope, Tally
from headrace_billing.reconciliation.request import Difference, Graces, Reason, Status, compare


async def reconcile(session: AsyncSession, scope: Scope, *, now: datetime, graces: Graces) -> Report:
    """`session` must see one moment: what came in meanwhile would look like a difference."""
    tally = Tally()
    await compare_engine(session, scope, tally, now=now, graces=graces)
    await blame_kept_aside(session, scope, tally)
    await blame_payments(session, scope, tally)
    await blame_gaps(session, scope, tally, now=now, graces=graces)

    events, rollups = await books_store.counts(session, scope)
    money = await books_store.money(session, scope)
    checks: list[Check] = [*count_checks(events, rollups), *(c for m in money for c in money_checks(m))]
    tally.check(checks)
    return Report(
        scope=scope,
        as_of=now,
        tally=tally,
        events=events,
        rollups=rollups,
        checks=checks,
        ledger_nanos={m.currency: m.posted for m in money},
        invoice_nanos={m.currency: m.invoiced for m in money},
    )


async def compare_engine(
    session: AsyncSession, scope: Scope, tally: Tally, *, now: datetime, graces: Graces
) -> None:
    """What engines yielded against what was billed, request by request."""
    tally.add_matched(*await store.matched(session, scope))
    tally.add_unwitnessed(*await store.unwitnessed(session, scope))
    async for request in store.unmatched(session, scope):
        tally.add(compare(request.billed, request.records, now=now, graces=graces))
    async for orphan in store.orphans(session, scope, now=now, graces=graces):
        ended = f"{orphan.ending} on {orphan.replica}, deployment {orphan.deployment}; no event came"
        tally.add_lost(Culprit(orphan.attempt, Reason.LOST, Status.RED, ended), orphan.tokens)
    if scope.organization is None:
        probes, lost = await store.unbilled(session, scope)
        tally.add_unbilled(Difference.PROBE, probes)
        tally.add_unbilled(Difference.DECLARED_LOST, lost)
    for doubled in await store.doubled(session, scope):
        tally.blame(Culprit(doubled, Reason.DOUBLED, Status.RED, "counts more than once"))


async def blame_kept_aside(session: AsyncSession, scope: Scope, tally: Tally) -> None:
    for request in await store.conflicts(session, scope):
        told = "its event came twice with different content; the first one counts"
        tally.blame(Culprit(request, Reason.CONFLICT, Status.RED, told))
    for one in await store.quarantined(session, scope):
        tally.blame(Culprit(one.id, Reason.QUARANTINED, Status.RED, one.reason))


async def blame_payments(session: AsyncSession, scope: Scope, tally: Tally) -> None:
    for payment in await payment_store.differences(session, scope):
        told = f"its balance transaction is {payment.reason}: see GET /v1/reconciliation/payments"
        tally.blame(Culprit(payment.id, Reason.PAYMENT_DIFFERS, Status.RED, told))


async def blame_gaps(
    session: AsyncSession, scope: Scope, tally: Tally, *, now: datetime, graces: Graces
) -> None:
    """Numbers of outside meters that did not come, though later ones did."""
    for gap in await store.gaps(session, scope):
        red = now >= gap.since + graces.sequence_gap
        told = (
            f"{gap.missing} of its numbers are missing since {gap.since:%Y-%m-%d %H:%M}Z, from {gap.first} on"
        )
        tally.blame(
            Culprit(
                f"{gap.meter} {gap.source}",
                Reason.SEQUENCE_GAP if red else Reason.AWAITING_SEQUENCE,
                Status.RED if red else Status.PENDING,
                told,
            )
        )
