"""The last stage: what invoices and top-ups took in, held against Stripe's own books, as of the last comparison.

Where no Stripe account is connected there is nothing to hold anything against, and that is neither green nor red.
"""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing import tax_filing_store
from headrace_billing.invoicing.tax_filing_store import Untold
from headrace_billing.payments import reconciliation_store
from headrace_billing.payments.reconciliation_documents import DifferenceDocument
from headrace_billing.reconciliation.documents import CulpritDocument, SideDocument, StageDocument
from headrace_billing.reconciliation.request import Reason, Status
from headrace_billing.reconciliation.settling import Matter
from headrace_billing.reconciliation.stage import CULPRITS_KEPT_MAX

STAGE = "invoices = Stripe"
NOT_USED = "not_used"

TAX_GRACE = timedelta(hours=2)
"""As long as payments may be on their way."""


async def stripe_stage(session: AsyncSession, *, used: bool, now: datetime) -> StageDocument:
    """As the other stages are shown. `as_of` is null before the first comparison."""
    if not used:
        return _stage(NOT_USED)
    report = await reconciliation_store.report(session)
    untold = await tax_filing_store.untold(session, before=now - TAX_GRACE)
    if report is None:
        # The worker compares once an hour.
        return _stage(Status.PENDING, culprits=[_tax(one) for one in untold])
    culprits = [*(_payment(one) for one in report["differences"]), *(_tax(one) for one in untold)]
    red = report["status"] == Status.RED or any(one["status"] == Status.RED for one in culprits)
    pending = report["status"] == Status.PENDING or bool(culprits)
    differing = len(report["differences"])
    both: SideDocument = {
        "unit": "balance transactions of payments",
        "left": str(report["matched"] + differing),
        "right": str(report["matched"]),
        "holds": not differing,
    }
    sums: list[SideDocument] = [
        {
            "unit": f"{check['name']}, {check['currency']} nanos",
            "left": check["left"],
            "right": check["right"],
            "holds": check["holds"],
        }
        for check in report["checks"]
    ]
    return _stage(
        Status.RED if red else Status.PENDING if pending else Status.GREEN,
        as_of=report["as_of"],
        sides=[both, *sums],
        culprits=culprits,
    )


def _stage(
    status: str,
    *,
    as_of: str | None = None,
    sides: list[SideDocument] | None = None,
    culprits: list[CulpritDocument] | None = None,
) -> StageDocument:
    found = culprits or []
    return {
        "stage": STAGE,
        "status": status,
        "as_of": as_of,
        "newest": as_of,
        "sides": sides or [],
        "unwitnessed_requests": 0,
        "culprits_count": len(found),
        "culprits": found[:CULPRITS_KEPT_MAX],
        "days": [],
    }


def _payment(difference: DifferenceDocument) -> CulpritDocument:
    amount = f"{difference['amount']} {difference['currency']}"
    return {
        "id": difference["balance_transaction"],
        "reason": Reason.PAYMENT_DIFFERS,
        "status": Status.RED,
        "detail": f"{amount}: {difference['reason']}; GET /v1/reconciliation/payments has more",
    }


def _tax(one: Untold) -> CulpritDocument:
    refused = one.reason is not None
    return {
        "id": one.id,
        "reason": Matter.TAX_NOT_TOLD,
        "status": Status.RED if refused else Status.PENDING,
        "detail": f"Stripe Tax refused it: {one.reason}"
        if refused
        else f"Stripe Tax was not told since {one.since:%Y-%m-%d %H:%M}Z",
    }
