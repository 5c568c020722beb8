"""A shop on a clock that tests move, whose customer signs contracts."""

import pytest

from tests.billing.contracts.desk import Desk
from tests.billing.invoicing.conftest import clock, parts, shop
from tests.billing.invoicing.shop import Shop

__all__ = ["clock", "parts", "shop"]


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)
