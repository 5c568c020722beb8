"""The worked numbers of docs/reference/prices.md are what rating computes, and its example lists load."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_billing.money import major
from headrace_billing.rating.definition import schedule_of
from headrace_billing.rating.schedule import charge_nanos
from tests.billing.seller import Seller

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "prices.md").read_text()
LISTS = {path.stem: path.read_text() for path in sorted((ROOT / "billing" / "price-books").glob("*.json"))}
WORKED = re.compile(
    r"```json\n([^`]*?)\n```\n\n\| tokens \| open \| closed \|\n\|---\|---\|---\|\n((?:\|.*\|\n)+)"
)


def worked() -> Iterator[tuple[str, int, str, str]]:
    for price, rows in WORKED.findall(PAGE):
        for row in rows.splitlines():
            tokens, while_open, closed = (cell.strip() for cell in row.strip("|").split("|"))
            yield price, int(tokens), while_open, closed


def test_every_kind_has_its_worked_numbers() -> None:
    kinds = {json.loads(price)["kind"] for price, *_ in worked() if price.startswith("{")}
    assert kinds == {"flat", "graduated", "volume", "package"}


@pytest.mark.parametrize(("price", "tokens", "while_open", "closed"), list(worked()))
def test_a_worked_number_is_what_is_charged(price: str, tokens: int, while_open: str, closed: str) -> None:
    schedule = schedule_of(json.loads(price))
    assert major(charge_nanos(tokens, schedule)) == while_open
    assert major(charge_nanos(tokens, schedule, closed=True)) == closed


async def test_a_list_of_the_page_can_be_published(seller: Seller) -> None:
    (example,) = (
        block for block in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL) if '"weight"' in block
    )
    published = await seller.post("/v1/price-books", json.loads(example))
    assert published["models"]["glm-5.3-flash"]["output"] == "0.44"


@pytest.mark.parametrize("name", LISTS)
async def test_the_list_prices_of_glm_load_by_one_request(seller: Seller, name: str) -> None:
    written = json.loads(LISTS[name])
    published = await seller.post("/v1/price-books", written)
    assert published["models"] == written["models"]
