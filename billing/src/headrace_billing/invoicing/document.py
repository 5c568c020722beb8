"""An invoice as everybody sees it. It is kept as it was issued, so that it reads the same in ten years."""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace_billing.charges.charge import Charge
from headrace_billing.invoicing.amounts import plain
from headrace_billing.invoicing.einvoice.particulars import Particulars
from headrace_billing.invoicing.invoice import Invoice
from headrace_billing.invoicing.lines import Line, LineKind
from headrace_billing.invoicing.parties import Profile, Seller
from headrace_billing.invoicing.tax import Assessment, Treatment
from headrace_billing.invoicing.usage_store import Bundled
from headrace_billing.money import major
from headrace_billing.outcomes.outcome import AcceptedAs
from headrace_billing.rating.price import TokenClass
from headrace_contracts.usage import ServiceTier

Document = dict[str, Any]

CLASS_NAMES = {
    TokenClass.INPUT_UNCACHED: "input tokens",
    TokenClass.CACHE_READ: "input tokens read from cache",
    TokenClass.CACHE_WRITE: "input tokens written to cache",
    TokenClass.OUTPUT: "output tokens",
}

TAX_NOTES = {
    Treatment.REVERSE_CHARGE: "Reverse charge: the customer accounts for the tax.",
    Treatment.EXEMPT: "The customer is exempt from tax.",
}


def document_of(invoice: Invoice, *, project_names: Mapping[str, str], bundled: Bundled) -> Document:
    seller = invoice.seller
    return {
        "id": invoice.id,
        "number": invoice.number,
        "status": "final",
        "organization": invoice.organization,
        "customer": customer_document(invoice.organization, invoice.buyer),
        "seller": seller_document(seller),
        "currency": invoice.currency,
        "period": {"start": invoice.period.start.isoformat(), "end": invoice.period.end.isoformat()},
        "issued_at": invoice.issued_at.isoformat(),
        "due_at": invoice.due_at.isoformat(),
        "purchase_order": invoice.buyer.purchase_order or None,
        "lines": [
            {"position": position, **_line(line, invoice.currency, project_names)}
            for position, line in enumerate(invoice.lines, 1)
        ],
        "projects": _by_project(invoice, project_names),
        "total": plain(invoice.total_minor, invoice.currency),
        "tax": tax_document(invoice.tax, invoice.currency),
        "credit_applied": plain(invoice.applied_minor, invoice.currency),
        "amount_due": plain(invoice.due_minor, invoice.currency),
        "exact": {"total": major(invoice.exact_nanos), "credit_applied": major(invoice.applied_nanos)},
        "notes": list(_notes(invoice, bundled)),
    }


def seller_document(seller: Seller) -> Document:
    return {
        "id": seller.id,
        "name": seller.name,
        "address": seller.address,
        "country": seller.country,
        "tax_id": seller.tax_id,
        "email": seller.email,
        **_particulars(seller.e_invoice),
    }


def customer_document(organization: str, buyer: Profile) -> Document:
    return {
        "id": organization,
        "name": buyer.legal_name,
        "address": buyer.address,
        "country": buyer.country,
        "vat_id": buyer.vat_id or None,
        **_particulars(buyer.e_invoice),
    }


def _particulars(particulars: Particulars) -> Document:
    stated = particulars.stated()
    return {"e_invoice": stated} if stated else {}


def tax_document(tax: Assessment, currency: str) -> Document:
    return {
        "treatment": tax.treatment,
        "name": tax.name or None,
        "percent": f"{tax.percent.normalize():f}",
        "country": tax.country or None,
        "taxable": plain(tax.taxable_minor, currency),
        "amount": plain(tax.tax_minor, currency),
        "included": tax.included,
        **({"calculation": tax.calculation} if tax.calculation else {}),
    }


def _by_project(invoice: Invoice, project_names: Mapping[str, str]) -> list[Document]:
    """What each project, and so each cost centre, has to bear; outcomes are the customer's as a whole."""
    sums: dict[str | None, int] = {}
    for line in invoice.lines:
        sums[line.project] = sums.get(line.project, 0) + line.amount_minor
    return [
        {
            "id": project,
            "name": None if project is None else project_names[project],
            "cost_center": None if project is None else invoice.buyer.cost_centers.get(project),
            "total": plain(sums[project], invoice.currency),
        }
        for project in sorted(sums, key=lambda one: (one is None, one or ""))
    ]


def _line(line: Line, currency: str, project_names: Mapping[str, str]) -> Document:
    shown: Document = {
        "kind": line.kind,
        "description": _description(line),
        "quantity": line.quantity,
        "amount": plain(line.amount_minor, currency),
        "exact_amount": major(line.exact_nanos),
        "prepaid": line.prepaid,
    }
    if line.kind is LineKind.OUTCOME:
        assert line.unit_price_nanos is not None
        assert line.accepted_as is not None
        return {
            **shown,
            "unit": "outcome",
            "unit_price": major(line.unit_price_nanos),
            "per": 1,
            "outcome_type": line.outcome_label,
            "accepted_as": line.accepted_as,
        }
    if line.charge is not None:
        return {**shown, **_charge(line.charge, project_names)}
    assert line.project is not None
    return {
        **shown,
        "unit": "token",
        "unit_price": line.price_per_million,
        "per": 1_000_000,
        "project": {"id": line.project, "name": project_names[line.project]},
        "model": line.model,
        "price_book": line.price_book,
        "token_class": line.token_class,
        **_pricing(line),
        "period": None
        if line.span is None
        else {"start": line.span.start.isoformat(), "end": line.span.end.isoformat()},
    }


def _charge(charge: Charge, project_names: Mapping[str, str]) -> Document:
    project = charge.project
    found: Document = {
        "unit": charge.unit,
        "unit_price": None if charge.unit_price is None else f"{charge.unit_price.normalize():f}",
        "per": charge.per,
        "charge": {"id": charge.id, "kind": charge.kind, "reference": charge.reference},
        "period": {"start": charge.span.start.isoformat(), "end": charge.span.end.isoformat()},
    }
    return found if project is None else {**found, "project": {"id": project, "name": project_names[project]}}


def _pricing(line: Line) -> Document:
    """What a plain price leaves out."""
    found: Document = {}
    if line.price_window:
        found["price_window"] = line.price_window
    if line.service_tier is not ServiceTier.STANDARD:
        found["service_tier"] = line.service_tier
    if line.schedule is not None:
        assert line.month is not None
        found |= {"price": line.schedule, "month": f"{line.month:%Y-%m}"}
    return found


def _description(line: Line) -> str:
    if line.kind is LineKind.OUTCOME:
        return f"{line.outcome_label}, {line.accepted_as}"
    if line.charge is not None:
        return line.charge.label
    assert line.token_class is not None
    described = f"{line.model}, {CLASS_NAMES[line.token_class]}"
    if line.price_window:
        described += f", {line.price_window}"
    if line.service_tier is not ServiceTier.STANDARD:
        described += f", {line.service_tier}"
    if line.span is None:
        return described
    return (
        f"{described}; adjustment for {line.span.start:%Y-%m-%d %H:%M} to {line.span.end:%Y-%m-%d %H:%M} UTC"
    )


def _notes(invoice: Invoice, bundled: Bundled) -> Iterable[str]:
    counts = dict.fromkeys(AcceptedAs, 0)
    for line in invoice.lines:
        if line.accepted_as is not None:
            counts[line.accepted_as] += line.quantity
    if any(counts.values()):
        yield (
            f"Outcomes: {counts[AcceptedAs.CONFIRMED]} confirmed by the customer or an independent system, "
            f"{counts[AcceptedAs.DEEMED]} deemed accepted after a passed verification and its window. "
            "Evidence and verdicts of each can be had through the API."
        )
    if bundled.requests:
        yield (
            f"{bundled.requests:,} requests with {bundled.tokens:,} tokens were made inside tasks "
            "and are not charged by the token."
        )
    if any(line.kind is LineKind.ADJUSTMENT for line in invoice.lines):
        yield "Adjustments are for usage that became known after its period was closed."
    if invoice.applied_minor:
        yield "Credit paid for its part at the time of use; no further payment is taken for it."
    if any(line.schedule is not None for line in invoice.lines):
        yield (
            "Where a line names no single price, its amount is what its month's quantity costs by the price book, "
            "less what earlier invoices took of it."
        )
    if invoice.tax.treatment in TAX_NOTES:
        yield TAX_NOTES[invoice.tax.treatment]
    yield "Each line is its summed quantity times its price, rounded once; the total is the sum of the lines."
