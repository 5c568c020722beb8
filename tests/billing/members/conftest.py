"""The shop of the invoicing tests: a customer that has one of everything."""

from tests.billing.invoicing.conftest import clock, parts, shop

__all__ = ["clock", "parts", "shop"]
