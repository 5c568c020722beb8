"""What became of an invoice, as the API shows it: how it stands, what took from it, and credit notes."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from headrace_billing.invoicing.amounts import plain
from headrace_billing.invoicing.settlement import SettlementKind, SettlementStatus, Standing


class StandingDocument(TypedDict):
    status: SettlementStatus
    due: str
    paid: str
    credited: str
    written_off: str
    open: str
    overpaid: str
    credit_notes: list[str]


class PaymentDocument(TypedDict):
    id: str
    invoice: str
    amount: str
    reference: str
    paid_at: str
    standing: StandingDocument


class SettlementDocument(TypedDict):
    id: str
    kind: SettlementKind
    amount: str
    overpaid: str
    reference: str | None
    reason: str | None
    requested_by: str | None
    approved_by: str | None
    happened_at: str


class SettlementsDocument(TypedDict):
    invoice: str
    standing: StandingDocument
    items: list[SettlementDocument]


class CreditedLine(TypedDict):
    position: int
    kind: str
    description: str
    prepaid: bool
    amount: str
    project: NotRequired[Mapping[str, str]]
    model: NotRequired[str]
    unit: NotRequired[str]
    outcome_type: NotRequired[str]
    charge: NotRequired[Mapping[str, Any]]


class OfInvoice(TypedDict):
    id: str
    number: str
    issued_at: str
    period: Mapping[str, str]


class CreditNoteDocument(TypedDict):
    id: str
    number: str
    kind: Literal["credit", "void"]
    invoice: OfInvoice
    organization: str
    customer: Mapping[str, Any]
    seller: Mapping[str, Any]
    purchase_order: str | None
    currency: str
    issued_at: str
    reason: str
    lines: list[CreditedLine]
    total: str
    tax: str
    tax_included: bool
    total_with_tax: str
    off_amount_due: str
    owed_to_customer: str
    back_to_credit: str
    test: NotRequired[bool]


class WriteOffDocument(TypedDict):
    id: str
    invoice: str
    amount: str
    standing: StandingDocument


def standing_document(standing: Standing) -> StandingDocument:
    currency = standing.currency
    return {
        "status": standing.status,
        "due": plain(standing.due_minor, currency),
        "paid": plain(standing.paid_minor, currency),
        "credited": plain(standing.credited_minor, currency),
        "written_off": plain(standing.written_off_minor, currency),
        "open": plain(standing.open_minor, currency),
        "overpaid": plain(standing.over_minor, currency),
        "credit_notes": list(standing.credit_notes),
    }
