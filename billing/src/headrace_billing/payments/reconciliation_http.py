"""The seller's route for how payments stand against Stripe."""

from fastapi import APIRouter

from headrace_billing.answers import Answering
from headrace_billing.callers import AdminOnly
from headrace_billing.errors import BillingError
from headrace_billing.parts import PartsOf
from headrace_billing.payments import reconciliation_store
from headrace_billing.payments.reconciliation_documents import PaymentsReportDocument

router = APIRouter(tags=["reconciliation"], dependencies=[AdminOnly], route_class=Answering)


class NeverReconciled(BillingError):
    """Nothing was compared with Stripe yet."""

    code = "never_reconciled"

    def __init__(self) -> None:
        super().__init__("Payments were not compared with Stripe yet: the worker does it once an hour.")


@router.get("/v1/reconciliation/payments")
async def show_payments(parts: PartsOf) -> PaymentsReportDocument:
    """As the worker found it when it last compared, at `as_of`."""
    async with parts.database.snapshot() as session:
        report = await reconciliation_store.report(session)
    if report is None:
        raise NeverReconciled
    return report
