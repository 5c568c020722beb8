"""A meter that numbers its events can't lose one unnoticed."""

import pytest

from tests.billing.meters.reporter import SOURCE, Reporter
from tests.billing.seller import Document, Seller


async def source_of(seller: Seller, reporter: Reporter) -> Document:
    (source,) = (await seller.get(f"/v1/meters/{reporter.id}"))["sources"]
    assert source["source"] == SOURCE
    found: Document = source
    return found


def numbered(reporter: Reporter, *numbers: int) -> list[Document]:
    return [reporter.event(sequence=str(number)) for number in numbers]


async def test_missing_numbers_are_shown_until_they_come(seller: Seller, reporter: Reporter) -> None:
    answer = await reporter.send(*numbered(reporter, 1, 2, 5, 9))
    assert answer.json()["received_to"] == {SOURCE: "2"}
    source = await source_of(seller, reporter)
    assert source["missing"] == [{"first": "3", "last": "4"}, {"first": "6", "last": "8"}]
    await reporter.send(*numbered(reporter, 4, 3, 8, 7, 6))
    source = await source_of(seller, reporter)
    assert (source["received_to"], source["missing"], source["gap_since"]) == ("9", [], None)


async def test_a_refused_item_leaves_its_number_missing(seller: Seller, reporter: Reporter) -> None:
    first, second, third = numbered(reporter, 1, 2, 3)
    second["data"]["tokens"]["output_visible"] = -1
    await reporter.send(first, second, third)
    assert (await source_of(seller, reporter))["missing"] == [{"first": "2", "last": "2"}]


async def test_two_people_can_say_that_nothing_will_come_for_a_gap(
    seller: Seller, reporter: Reporter
) -> None:
    await reporter.send(*numbered(reporter, 1, 9))
    path = f"/v1/meters/{reporter.id}/gaps"
    said = {"source": SOURCE, "reason": "disk lost", "declared_by": "Ada", "confirmed_by": "Grace"}
    await seller.post(path, {**said, "first": 2, "last": 6})
    source = await source_of(seller, reporter)
    assert (source["received_to"], source["missing"]) == ("6", [{"first": "7", "last": "8"}])
    await seller.post(path, {**said, "first": 7, "last": 8})
    assert (await source_of(seller, reporter))["gap_since"] is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"confirmed_by": "ada"}, "gap_needs_two"),
        ({"first": 1}, "no_such_gap"),
        ({"last": 9}, "no_such_gap"),
        ({"first": 5, "last": 4}, "no_such_gap"),
        ({"first": 20, "last": 30}, "no_such_gap"),
        ({"source": "//elsewhere"}, "not_found"),
        ({"source": "\x00"}, "invalid_request"),
    ],
)
async def test_what_is_no_gap_or_said_by_one_person_is_refused(
    seller: Seller, reporter: Reporter, fields: Document, code: str
) -> None:
    await reporter.send(*numbered(reporter, 1, 9))
    said = {
        "source": SOURCE,
        "first": 2,
        "last": 8,
        "reason": "x",
        "declared_by": "Ada",
        "confirmed_by": "Grace",
    }
    assert (await seller.refused(f"/v1/meters/{reporter.id}/gaps", {**said, **fields}))[1] == code
    assert len((await source_of(seller, reporter))["missing"]) == 1
