"""What a scrape of a gateway says, after requests of which everything is known."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx2 as httpx
import msgspec
import pytest

from headrace_contracts.usage import Dialect
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.metrics.catalogue import CATALOGUE, OUTPUT_TOKEN_SECONDS
from headrace_gateway.metrics.reading import Reading
from headrace_gateway.metrics.requests import DEPLOYMENTS_MAX, LATER, OPERATIONS, Requests
from headrace_telemetry.metrics import Durations
from headrace_telemetry.scrape import MetricsPortTaken, serve_metrics
from tests.gateway.account import DEPLOYMENT, MODEL, Account
from tests.gateway.http.stack import TABLE, Stack, running_stack
from tests.gateway.waiting import eventually
from tests.support.metrics import Series, scrape, total, value
from tests.support.upstream import Behaviour

CHAT = {"dialect": "openai.chat", "model": MODEL, "deployment": DEPLOYMENT.id}


@dataclass
class Scraped:
    stack: Stack
    port: int

    async def now(self) -> Series:
        return await asyncio.to_thread(scrape, self.port)


@pytest.fixture
async def scraped(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Scraped]:
    async with running_stack(account, settings, unused_port()) as stack:
        reading = Reading(stack.meter, stack.gateway._inference, stack.deployments, None)
        port = unused_port()
        read = reading.from_thread(asyncio.get_running_loop())
        scraping = serve_metrics(CATALOGUE, read, host="127.0.0.1", port=port)
        yield Scraped(stack, port)
        await asyncio.to_thread(scraping.close)


async def test_requests_tokens_and_times_are_those_of_the_usage_events(scraped: Scraped) -> None:
    stack = scraped.stack
    stack.engine.behave(
        *[Behaviour(prompt_tokens=7, cached_tokens=3, tokens=5, thinking_tokens=2)] * 3, Behaviour(status=500)
    )
    for streamed in (True, True, False, False):
        await stack.post(stream=streamed)
    events = await stack.settled(4)
    seen = await scraped.now()

    requests = "headrace_gateway_requests_total"
    assert value(seen, requests, **CHAT, outcome="completed") == 3
    assert value(seen, requests, **CHAT, outcome="upstream_failed") == 1
    for token_class in ("input_uncached", "cache_read", "output_visible", "reasoning"):
        metered = sum(getattr(event.tokens, token_class) for event in events)
        assert value(seen, "headrace_gateway_tokens_total", **CHAT, token_class=token_class) == metered
    assert value(seen, "headrace_gateway_errors_total", code="upstream_failed") == 1
    assert value(seen, "headrace_gateway_running_requests", deployment=DEPLOYMENT.id) == 0
    assert value(seen, "headrace_gateway_upstream_attempts_total", **CHAT) == sum(e.attempts for e in events)

    duration = "gen_ai_server_request_duration_seconds"
    completed = [event for event in events if event.ending == "completed"]
    took = sum(event.finished_at_us - event.received_at_us for event in completed) / 1e6
    assert value(seen, f"{duration}_count", gen_ai_operation_name="chat", error_type="") == 3
    assert value(seen, f"{duration}_sum", error_type="") == pytest.approx(took)
    assert value(seen, f"{duration}_bucket", error_type="upstream_failed", le="+Inf") == 1
    first = [e.first_token_at_us - e.received_at_us for e in completed if e.first_token_at_us is not None]
    assert value(seen, "gen_ai_server_time_to_first_token_seconds_count") == len(first) == 2
    assert value(seen, "gen_ai_server_time_to_first_token_seconds_sum") == pytest.approx(sum(first) / 1e6)
    assert value(seen, "gen_ai_server_time_per_output_token_seconds_count") == 2


async def test_a_fault_of_ours_is_told_of_before_the_first_so_that_the_first_is_an_increase(
    scraped: Scraped,
) -> None:
    assert value(await scraped.now(), "headrace_gateway_errors_total", code="internal_error") == 0


async def test_what_is_refused_is_counted_by_its_code(scraped: Scraped) -> None:
    http = scraped.stack.http
    await http.post("/v1/chat/completions", json={"model": "glm-none", "messages": []})
    await http.post("/v1/chat/completions", json={}, headers={"authorization": "Bearer hr-" + "x" * 43})
    await http.get("/nowhere")
    seen = await scraped.now()
    for code in ("model_not_found", "invalid_api_key", "path_unknown"):
        assert value(seen, "headrace_gateway_errors_total", code=code) == 1
    assert total(seen, "headrace_gateway_requests_total") == 0


async def test_a_table_that_can_not_be_read_is_told_until_it_can(scraped: Scraped) -> None:
    stack = scraped.stack
    table = stack.meter.settings.state_dir / TABLE
    unreadable = "headrace_gateway_deployment_tables_unreadable"
    assert value(await scraped.now(), unreadable) == 0
    for broken in (lambda: table.write_bytes(b"{"), table.unlink):
        broken()
        stack.deployments.look()
        assert value(await scraped.now(), unreadable) == 1
        assert (await stack.post()).status_code == 200
    stack.offer(slots=1)
    assert value(await scraped.now(), unreadable) == 0


async def test_slots_and_the_line_for_them_are_told(scraped: Scraped) -> None:
    stack = scraped.stack
    stack.offer(slots=1)
    release = asyncio.Event()
    stack.engine.behave(Behaviour(begins=release), Behaviour())
    first = asyncio.create_task(stack.post())
    await eventually(lambda: stack.meter.running)
    lines = stack.gateway._inference.lines
    leaving, staying = asyncio.create_task(stack.post()), asyncio.create_task(stack.post())
    await eventually(lambda: lines.waiting == 2)
    waiting_since = asyncio.get_running_loop().time()
    seen = await scraped.now()
    here = {"deployment": DEPLOYMENT.id}
    assert value(seen, "headrace_gateway_deployment_slots", **here) == 1
    assert value(seen, "headrace_gateway_running_requests", **here) == 1
    assert value(seen, "headrace_gateway_queued_requests", **here) == 2

    leaving.cancel()
    await eventually(lambda: lines.waiting == 1)
    waited = asyncio.get_running_loop().time() - waiting_since
    release.set()
    assert ((await first).status_code, (await staying).status_code) == (200, 200)
    await eventually(lambda: not lines.waiting)
    seen = await scraped.now()
    wait = "headrace_gateway_queue_wait_seconds"
    assert value(seen, f"{wait}_count", **here, outcome="gone") == 1
    assert value(seen, f"{wait}_count", **here, outcome="served") == 1
    assert value(seen, f"{wait}_sum", **here, outcome="served") >= waited > 0
    assert value(seen, "headrace_gateway_queued_requests", **here) == 0


async def test_the_state_of_metering_is_told(scraped: Scraped) -> None:
    stack = scraped.stack
    await stack.post()
    await stack.settled()
    seen = await scraped.now()
    assert value(seen, "headrace_gateway_admitting") == 1
    assert value(seen, "headrace_gateway_valkey_connected") == 1
    assert value(seen, "headrace_gateway_journal_unacknowledged_events") == 1, "billing is away"
    assert value(seen, "headrace_gateway_journal_bytes") == 2 * stack.meter.settings.segment_bytes
    assert value(seen, "headrace_gateway_journal_max_bytes") == stack.meter.settings.journal_bytes_max
    assert value(seen, "headrace_gateway_unsettled_requests") == 0
    assert value(seen, "headrace_gateway_inflight_places") == 64
    assert value(seen, "headrace_gateway_round_age_seconds", loop="heartbeat") < 30


async def test_the_public_port_has_no_metrics(scraped: Scraped) -> None:
    assert (await scraped.stack.http.get("/metrics")).status_code == 404


async def test_whose_a_request_was_is_in_no_label(scraped: Scraped) -> None:
    await scraped.stack.http.post(
        "/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "user": "jane@example.org"},
        headers={"x-session-id": "ses_private"},
    )
    await scraped.stack.settled()
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{scraped.port}/metrics")).text
    account = scraped.stack.account
    for whose in (
        account.secret,
        f"org_{account.id}",
        f"project_{account.id}",
        f"key_{account.id}",
        "ses_private",
    ):
        assert whose not in text


async def test_every_metric_of_the_catalogue_is_told_and_no_other(scraped: Scraped) -> None:
    stack = scraped.stack
    stack.offer(slots=1)
    release = asyncio.Event()
    stack.engine.behave(Behaviour(begins=release), Behaviour())
    first = asyncio.create_task(stack.post(stream=True))
    await eventually(lambda: stack.meter.running)
    second = asyncio.create_task(stack.post())
    await eventually(lambda: stack.gateway.waiting == 1)
    release.set()
    await asyncio.gather(first, second)
    await stack.http.get("/nowhere")
    told = {name for name, _ in await scraped.now()}
    plain = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in told}
    # Without a collector no span can be lost.
    assert plain == CATALOGUE.keys() - {"headrace_gateway_spans_lost_total"}


def test_a_port_that_is_taken_is_said_so(unused_port: Callable[[], int]) -> None:
    port = unused_port()
    scraping = serve_metrics(CATALOGUE, list, host="127.0.0.1", port=port)
    with pytest.raises(MetricsPortTaken, match=str(port)):
        serve_metrics(CATALOGUE, list, host="127.0.0.1", port=port)
    scraping.close()


def test_a_duration_on_a_boundary_is_within_it() -> None:
    durations = Durations(CATALOGUE["gen_ai_server_time_per_output_token_seconds"])
    for micros in (10_000, 10_001, 2_500_000, 2_500_001):
        durations.add(micros)
    assert durations.buckets == [1, 1, *[0] * (len(OUTPUT_TOKEN_SECONDS) - 3), 1, 1]


def test_deployments_that_come_and_go_do_not_make_series_without_end() -> None:
    requests = Requests()
    for n in range(DEPLOYMENTS_MAX + 50):
        requests.of(msgspec.structs.replace(DEPLOYMENT, id=f"dep-{n}"), Dialect.OPENAI_CHAT).begun()
    running = [one for one in requests.samples() if one.metric == "headrace_gateway_running_requests"]
    assert len(running) == DEPLOYMENTS_MAX + 1
    assert [one.value for one in running if one.labels == (LATER,)] == [50]


def test_every_dialect_has_an_operation_of_the_conventions() -> None:
    # What meters outside report never comes through a gateway.
    assert OPERATIONS.keys() == set(Dialect) - {Dialect.OUTSIDE}
