"""GPU time by a contract's rates: reserved whether used or not, on demand above, hour by hour, and each millisecond once."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from headrace_contracts.gpu_time import GpuTimeEvent
from headrace_contracts.usage import Grade
from tests.billing.contracts.desk import DECEMBER, FEBRUARY, JANUARY, Desk
from tests.billing.seller import INGEST_TOKEN, Document, Seller

HOURS = timedelta(hours=1)
DEPLOYMENT = "millrace/chat"
RATES = {
    "deployment": DEPLOYMENT,
    "profile": "h100",
    "accelerators": 2,
    "reserved_rate": "1.00",
    "on_demand_rate": "3.00",
}
TERMS = {"gpu_rates": [RATES]}
RESERVED = "1488.00"
"""Two accelerators through the 744 hours of a month of 31 days."""


async def ran(desk: Desk, hour: datetime, accelerators: int, minutes: int = 60, **fields: object) -> None:
    hour_us = int(hour.timestamp()) * 1_000_000
    values: dict[str, Any] = {
        "pod": f"pod-{uuid4()}",
        "hour_us": hour_us,
        "grade": Grade.FINAL,
        "org": desk.shop.customer.org,
        "deployment": DEPLOYMENT,
        "cluster": "millrace/chat-c1",
        "model": "glm-tiny",
        "profile": "h100",
        "accelerators": accelerators,
        "started_at_us": hour_us,
        "ended_at_us": hour_us + minutes * 60_000_000,
        "gpu_ms": accelerators * minutes * 60_000,
        **fields,
    }
    reply = await Seller(desk.shop.seller.http, INGEST_TOKEN).post(
        "/internal/v1/gpu-time", {"events": [msgspec.to_builtins(GpuTimeEvent(**values))]}
    )
    assert [one["outcome"] for one in reply["results"]] == ["accepted"]


def lines(invoice: Document) -> list[tuple[str, str]]:
    return [(line["description"], line["amount"]) for line in invoice["lines"] if line["kind"] == "charge"]


async def test_a_month_s_gpu_time_is_on_the_invoice_with_its_exact_seconds_and_what_was_idle(
    desk: Desk,
) -> None:
    await desk.sign(terms=TERMS)
    # Two hours of two; one of five, three of which are above the reservation; twenty minutes of one.
    await ran(desk, DECEMBER, 2)
    await ran(desk, DECEMBER + 1 * HOURS, 2)
    await ran(desk, DECEMBER + 2 * HOURS, 5)
    await ran(desk, DECEMBER + 3 * HOURS, 1, minutes=20)
    await desk.passes_to(JANUARY + 6 * HOURS)
    invoice = await desk.shop.close(end=JANUARY.isoformat())
    assert lines(invoice) == [
        (f"GPU time on demand: {DEPLOYMENT}, h100, 10800 s", "9.00"),
        (
            f"Reserved GPU time: 2 of {DEPLOYMENT}, h100, 5356800 s (used 22800 s, idle 5334000 s)",
            RESERVED,
        ),
    ]
    assert {line["quantity"] for line in invoice["lines"]} == {10_800_000, 5_356_800_000}
    await desk.books_hold()


async def test_the_running_month_is_told_ahead_and_charges_nothing(desk: Desk) -> None:
    contract = await desk.sign(terms=TERMS)
    await ran(desk, DECEMBER, 3, minutes=30)
    await desk.passes_to(DECEMBER + 30 * HOURS)
    preview = await desk.shown(contract, "/gpu-time")
    (item,) = preview["items"]
    assert (preview["month"], preview["preliminary"]) == ("2026-12", True)
    assert (item["used_seconds"], item["on_demand_seconds"]) == ("5400", "0")
    assert await desk.charges() == []
    assert (await desk.shown(contract, "/gpu-time?month=2027-02"))["items"][0]["used_seconds"] == "0"
    status = await desk.shop.seller.ask("GET", f"/v1/contracts/{contract['id']}/gpu-time?month=2027-03")
    assert status.status_code == 404


async def test_late_records_make_an_adjustment_that_names_its_month_and_nothing_is_charged_twice(
    desk: Desk,
) -> None:
    await desk.sign(terms=TERMS)
    await ran(desk, DECEMBER, 4)
    await desk.passes_to(JANUARY + 6 * HOURS)
    await desk.passes_to(JANUARY + 8 * HOURS)
    first = await desk.shop.close(end=JANUARY.isoformat())
    assert first["total"] == "1494.00"
    await ran(desk, DECEMBER + 1 * HOURS, 3)
    await desk.passes_to(FEBRUARY + 6 * HOURS)
    second = await desk.shop.close(end=FEBRUARY.isoformat())
    (late,) = (line for line in second["lines"] if line["description"].startswith("Adjustment"))
    assert (late["amount"], late["quantity"]) == ("3.00", 3_600_000)
    assert late["period"]["start"] == DECEMBER.isoformat()
    assert second["total"] == "1491.00"
    await desk.books_hold()


async def test_a_final_record_in_an_estimate_s_place_gives_back_what_was_too_much(desk: Desk) -> None:
    await desk.sign(terms=TERMS)
    await ran(desk, DECEMBER, 4, pod="pod-1", grade=Grade.ESTIMATED)
    await desk.passes_to(JANUARY + 6 * HOURS)
    assert await desk.charges() == [("gpu_time", "6.00"), ("gpu_time", RESERVED)]
    await ran(desk, DECEMBER, 4, minutes=45, pod="pod-1")
    await desk.passes_to(JANUARY + 8 * HOURS)
    assert await desk.charges() == [("gpu_time", "6.00"), ("gpu_time", "-3.00"), ("gpu_time", RESERVED)]


@pytest.mark.parametrize("minutes", [1, 7, 13])
async def test_a_minute_on_demand_costs_its_exact_share_of_an_hour(desk: Desk, minutes: int) -> None:
    contract = await desk.sign(terms={"gpu_rates": [{**RATES, "accelerators": 0}]})
    await ran(desk, DECEMBER, 1, minutes=minutes)
    (item,) = (await desk.shown(contract, "/gpu-time?month=2026-12"))["items"]
    assert item["on_demand_amount"] == f"{minutes * 3 / 60:.2f}"
    assert item["reserved_amount"] == "0.00"
