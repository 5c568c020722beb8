"""A shop on a clock that tests move, as invoices have it."""

from tests.billing.invoicing.conftest import clock, parts, shop

__all__ = ["clock", "parts", "shop"]
