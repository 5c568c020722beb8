"""GPU time over HTTP: stored once, a final one in an estimate's place, and told by organisation, deployment and hour."""

from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_contracts.gpu_time import HOUR_US, GpuTimeEvent
from headrace_contracts.usage import Grade
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, Seller

PATH = "/internal/v1/gpu-time"
HOUR = int(datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture
def operator(seller: Seller) -> Seller:
    return Seller(seller.http, INGEST_TOKEN)


def event(minutes: int = 60, **fields: object) -> GpuTimeEvent:
    """Of eight accelerators, from the beginning of the hour."""
    hour = int(str(fields.get("hour_us", HOUR)))
    values: dict[str, Any] = {
        "pod": "pod-1",
        "hour_us": hour,
        "grade": Grade.FINAL,
        "deployment": "millrace/chat",
        "cluster": "millrace/chat-c1",
        "model": "glm-tiny",
        "profile": "h100",
        "accelerators": 8,
        "started_at_us": hour,
        "ended_at_us": hour + minutes * 60_000_000,
        "gpu_ms": 8 * minutes * 60_000,
        **fields,
    }
    return GpuTimeEvent(**values)


async def send(operator: Seller, *events: GpuTimeEvent) -> list[str]:
    reply = await operator.post(PATH, {"events": msgspec.to_builtins(list(events))})
    return [result["outcome"] for result in reply["results"]]


async def told(seller: Seller, query: str = "") -> list[tuple[int, int]]:
    answer = await seller.get(f"/v1/gpu-time?start=2026-11-01T00:00:00Z&{query}")
    return [(item["gpu_ms"], item["gpu_ms_estimated"]) for item in answer["items"]]


async def test_an_hour_is_stored_once_however_often_it_is_sent(operator: Seller, seller: Seller) -> None:
    assert await send(operator, event(), event()) == ["accepted", "duplicate"]
    assert await send(operator, event()) == ["duplicate"]
    assert await told(seller) == [(8 * 3_600_000, 0)]


async def test_a_final_event_takes_the_estimate_s_place_in_whichever_order_they_come(
    operator: Seller, seller: Seller
) -> None:
    await send(operator, event(20, grade=Grade.ESTIMATED))
    assert await told(seller) == [(8 * 20 * 60_000, 8 * 20 * 60_000)]
    assert await send(operator, event(25)) == ["accepted"]
    late = event(10, grade=Grade.ESTIMATED, pod="pod-2")
    await send(operator, event(15, pod="pod-2"), late)
    assert await told(seller) == [(8 * 40 * 60_000, 0)]


async def test_another_payload_under_the_same_identity_is_kept_aside_and_the_first_one_stands(
    operator: Seller, seller: Seller, database: Database
) -> None:
    await send(operator, event(20))
    assert await send(operator, event(30)) == ["conflict"]
    assert await told(seller) == [(8 * 20 * 60_000, 0)]
    async with database.begin() as session:
        (row,) = await session.execute(
            text("SELECT pod, (payload->>'gpu_ms')::bigint FROM gpu_time_conflicts")
        )
    assert tuple(row) == ("pod-1", 8 * 30 * 60_000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hour_us": HOUR + 1}, "hour_is_none"),
        ({"started_at_us": HOUR - 1}, "time_outside_of_the_hour"),
        ({"ended_at_us": HOUR + HOUR_US + 1}, "time_outside_of_the_hour"),
        ({"ended_at_us": HOUR}, "time_outside_of_the_hour"),
        ({"accelerators": 0, "gpu_ms": 0}, "accelerators_out_of_range"),
        ({"gpu_ms": 1}, "time_does_not_add_up"),
        ({"pod": "a\x00b"}, "name_unusable"),
        ({"org": "org_nobody"}, "unknown_organization"),
    ],
)
async def test_a_bad_event_is_kept_aside_with_its_reason_and_does_not_spoil_the_others(
    operator: Seller, database: Database, seller: Seller, change: dict[str, object], reason: str
) -> None:
    good = msgspec.to_builtins(event(pod="pod-2"))
    bad = {**msgspec.to_builtins(event()), **change}
    reply = await operator.post(PATH, {"events": [bad, good, {"pod": 3}]})
    outcomes = [(result["outcome"], result.get("reason")) for result in reply["results"]]
    assert outcomes[:2] == [("quarantined", reason), ("accepted", None)]
    assert outcomes[2][0] == "quarantined"
    async with database.begin() as session:
        found = await session.execute(text("SELECT reason FROM usage_quarantine WHERE source = 'gpu_time'"))
    assert reason in [row.reason for row in found]
    assert await told(seller) == [(8 * 3_600_000, 0)]


@pytest.mark.parametrize("token", ["", ADMIN_TOKEN, "wrong"])
async def test_only_our_own_machines_may_send(seller: Seller, token: str) -> None:
    refusal = await seller.refused(PATH, {"events": []}, authorization=f"Bearer {token}")
    assert refusal == (401, "unauthenticated")


@pytest.mark.parametrize("body", [[], {}, {"events": 1}, {"events": [1] * 1001}])
async def test_what_is_no_batch_is_a_problem_and_leaves_nothing(
    operator: Seller, database: Database, body: object
) -> None:
    assert await operator.refused(PATH, body) == (400, "invalid_request")
    async with database.begin() as session:
        assert (await session.execute(text("SELECT count(*) FROM usage_quarantine"))).scalar_one() == 0


async def test_it_is_told_by_organisation_deployment_and_hour_and_a_customer_reads_its_own(
    operator: Seller, seller: Seller, http: httpx2.AsyncClient
) -> None:
    ours, theirs = await seller.customer(), await seller.customer()
    await send(
        operator,
        event(org=ours.org),
        event(30, org=ours.org, hour_us=HOUR + HOUR_US),
        event(10, org=theirs.org, pod="pod-2", deployment="gristmill/chat"),
        event(5, pod="pod-3", deployment="shared/chat"),
    )
    hour, half = 8 * 3_600_000, 8 * 1_800_000
    assert await told(seller, f"organization={ours.org}") == [(hour, 0), (half, 0)]
    assert await told(seller, "deployment=gristmill/chat") == [(8 * 600_000, 0)]
    assert await told(seller, "end=2026-11-23T10:00:00Z&deployment=millrace/chat") == [(hour, 0)]
    customer = Seller(http, ours.secret)
    assert await told(customer) == [(hour, 0), (half, 0)]
    foreign = f"/v1/gpu-time?organization={theirs.org}"
    assert await customer.refused(foreign, None, method="GET") == (403, "forbidden")
    limited = {"project": ours.project, "name": "limited", "scopes": ["inference"]}
    narrow = Seller(http, (await seller.post("/v1/keys", limited))["secret"])
    assert await narrow.refused("/v1/gpu-time", None, method="GET") == (403, "forbidden")


async def test_pages_hold_each_row_once_also_when_some_come_in_between(
    operator: Seller, seller: Seller
) -> None:
    ours = await seller.customer()
    for number in range(5):
        await send(
            operator,
            event(org=ours.org, pod=f"a-{number}", hour_us=HOUR + number // 2 * HOUR_US),
            event(pod=f"b-{number}", deployment=f"shared/{number}"),
        )
    path = "/v1/gpu-time?start=2026-11-01T00:00:00Z&end=2026-12-01T00:00:00Z&limit=2"
    whole = (await seller.get(path.replace("limit=2", "limit=100")))["items"]
    assert len(whole) == 8
    items, cursor = [], ""
    while True:
        page = await seller.get(path + cursor)
        items += page["items"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        # Of an hour that was told already.
        await send(operator, event(5, pod=f"late-{len(items)}", deployment="early", hour_us=HOUR - HOUR_US))
    assert items == whole
    for other in ("&deployment=shared/1", "&cursor=x"):
        assert await seller.refused(path + cursor + other, None, method="GET") == (400, "cursor_invalid")


@pytest.mark.parametrize(("query", "code"), [("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", 400)])
async def test_a_time_that_ends_before_it_starts_is_refused(seller: Seller, query: str, code: int) -> None:
    assert await seller.refused(f"/v1/gpu-time?{query}", None, method="GET") == (code, "invalid_request")


EVENTS = st.lists(
    st.builds(
        lambda pod, minutes, grade, hour: event(
            minutes, pod=f"pod-{pod}", grade=grade, hour_us=HOUR + hour * HOUR_US
        ),
        st.integers(1, 2),
        st.integers(1, 60),
        st.sampled_from(Grade),
        st.integers(0, 1),
    ),
    max_size=8,
)


@given(events=EVENTS, split=st.integers(0, 8))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_split_and_repetition_tells_the_highest_grade_that_came_first(
    operator: Seller, seller: Seller, database: Database, events: list[GpuTimeEvent], split: int
) -> None:
    async with database.begin() as session:
        await session.execute(text("TRUNCATE gpu_time_events"))
    for batch in (events[:split], events[split:], events):
        await send(operator, *batch)
    first: dict[tuple[str, int, Grade], int] = {}
    for each in events:
        first.setdefault((each.pod, each.hour_us, each.grade), each.gpu_ms)
    true = {(pod, hour): first[pod, hour, grade] for pod, hour, grade in sorted(first)}
    assert sum(gpu_ms for gpu_ms, _ in await told(seller)) == sum(true.values())
