"""Why there is no e-invoice of an invoice: never one that breaks the standard's rules."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_billing.errors import BillingError


@dataclass(frozen=True, slots=True)
class Lacking:
    """Something that the standard wants and nobody has said."""

    field: str
    term: str
    set_by: str


class Incomplete(BillingError):
    """The parties lack what an e-invoice must say."""

    code = "e_invoice_incomplete"

    def __init__(self, lacking: Sequence[Lacking]) -> None:
        said = "; ".join(f"{one.field} ({one.term}): {one.set_by}" for one in lacking)
        super().__init__(f"An e-invoice needs more than is on file. {said}.")
        self.members = {
            "missing": [{"field": one.field, "term": one.term, "set_by": one.set_by} for one in lacking]
        }


class CurrencyTooFine(BillingError):
    """The standard's amounts have two decimal places at most."""

    code = "e_invoice_currency"

    def __init__(self, currency: str) -> None:
        super().__init__(
            f"EN 16931 knows amounts of two decimal places at most, and {currency} has more: "
            "this invoice can be had as PDF and JSON alone."
        )
