"""The list prices of the records and those that billing brings as a price book are one list."""

import json
from decimal import Decimal

import pytest

from headrace_platform.catalog.models import MODELS
from tests.architecture.tree import ROOT

BOOK = ROOT / "billing" / "price-books" / "glm-usd.json"


@pytest.mark.skipif(not BOOK.exists(), reason="billing brings no price book of list prices")
def test_a_model_costs_the_same_in_the_catalogue_and_in_the_price_book() -> None:
    book = json.loads(BOOK.read_text())
    assert book["currency"] == "USD"
    listed = {record.id: record.price for record in MODELS if record.price and record.id in book["models"]}

    assert listed
    for model, price in listed.items():
        # What has no price of its own when it comes from the cache costs what it costs without one.
        cached = price.input if price.cached is None else price.cached
        ours = (price.input, cached, price.output)
        theirs = book["models"][model]

        assert price.currency == book["currency"]
        assert ours == tuple(Decimal(theirs[kind]) for kind in ("input_uncached", "cache_read", "output")), (
            model
        )
