"""An invoice as the API shows it. What is kept of it is made in `document`, and stays as it was issued: older ones lack
what came later.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

from typing_extensions import TypedDict

from headrace_billing.invoicing.correction_documents import StandingDocument


class Party(TypedDict):
    id: str
    name: str
    address: str
    country: str
    e_invoice: NotRequired[Mapping[str, Any]]


class CustomerDocument(Party):
    vat_id: str | None


class SellerDocument(Party):
    tax_id: str
    email: str


class PeriodDocument(TypedDict):
    start: str
    end: str


class OfProject(TypedDict):
    id: str
    name: str


class LineDocument(TypedDict):
    position: int
    kind: str
    description: str
    quantity: int
    amount: str
    exact_amount: str
    prepaid: bool
    unit: str
    unit_price: str | None
    per: int
    outcome_type: NotRequired[str | None]
    accepted_as: NotRequired[str]
    project: NotRequired[OfProject]
    model: NotRequired[str]
    price_book: NotRequired[str]
    token_class: NotRequired[str]
    price_window: NotRequired[str]
    service_tier: NotRequired[str]
    price: NotRequired[Mapping[str, Any]]
    month: NotRequired[str]
    period: NotRequired[PeriodDocument | None]
    charge: NotRequired[Mapping[str, Any]]


class ProjectSum(TypedDict):
    id: str | None
    name: str | None
    cost_center: str | None
    total: str


class TaxDocument(TypedDict):
    treatment: str
    name: str | None
    percent: str
    country: str | None
    taxable: str
    amount: str
    included: bool
    calculation: NotRequired[str]


class ExactDocument(TypedDict):
    total: str
    credit_applied: str


class InvoiceDocument(TypedDict):
    id: str
    number: str
    status: str
    organization: str
    customer: CustomerDocument
    seller: SellerDocument
    currency: str
    period: PeriodDocument
    issued_at: str
    due_at: str
    purchase_order: str | None
    lines: list[LineDocument]
    projects: list[ProjectSum]
    total: str
    tax: TaxDocument
    credit_applied: str
    amount_due: str
    exact: ExactDocument
    notes: Sequence[str]
    standing: StandingDocument
    test: NotRequired[bool]
