"""What tokens cost the seller, and the margin that is left of what they were sold for.

Nothing here is posted: a cost book is the management's view, kept by version so that every margin can name the one it
goes by. A version may be effective in the past, because costs are often known only later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_billing.rating.price import TokenClass


class CostMethod(StrEnum):
    """How a cost came about; every margin says which."""

    PER_TOKEN = "per_token"  # noqa: S105 - tokens times the book's cost of their class


class MarginBy(StrEnum):
    MODEL = "model"
    ORGANIZATION = "organization"


class CostBookInvalid(BillingError):
    """Not from a whole hour on."""

    code = "cost_book_invalid"


@dataclass(frozen=True, slots=True)
class CostBook:
    id: str
    currency: str
    version: int
    published_at: datetime
    effective_at: datetime
    models: Mapping[str, Mapping[TokenClass, int]]
    """Per 1,000,000 tokens, scaled as `rating.price` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Of one model or organisation."""

    of: str
    requests: int
    tokens: int
    revenue_nanos: int
    """Posted for tokens; what was bundled into outcomes, free or internal has none."""
    list_nanos: int
    """What all of it is worth at list price."""
    cost_nanos: int
    tokens_without_cost: int
    """Of models that no cost book names at that time: the cost is too low by theirs."""

    @property
    def margin_nanos(self) -> int:
        return self.revenue_nanos - self.cost_nanos
