"""A request's trace: from the client through the gateway to the engine, and to a collector where there is one."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from headrace_gateway.http.candidates import Candidates
from headrace_gateway.metering.settings import MeterSettings
from headrace_telemetry.collector import WAITING_MAX, CollectorSpans
from headrace_telemetry.traces import Side, Span, Spans, read_traceparent, spans_to_collector
from tests.gateway.account import DEPLOYMENT, MODEL, Account
from tests.gateway.http.stack import Stack, chat, running_stack, served_at
from tests.gateway.waiting import eventually
from tests.support.collector import Collector, Received, running_collector
from tests.support.upstream import Behaviour

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = f"00-{TRACE}-b7ad6b7169203331-01"
SERVER, CLIENT = 2, 3


@pytest.fixture
def collector(unused_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with running_collector(unused_port()) as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield running


@pytest.fixture
def spans(collector: Collector) -> Iterator[Spans]:
    opened = spans_to_collector("headrace-gateway", "gateway-0")
    assert opened is not None
    yield opened
    opened.close()


@pytest.fixture
async def traced(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], spans: Spans
) -> AsyncIterator[Stack]:
    async with running_stack(account, settings, unused_port(), spans=spans) as running:
        yield running


async def of(collector: Collector, count: int) -> list[Received]:
    await eventually(lambda: len(collector.spans) >= count)
    assert len(collector.spans) == count
    return sorted(collector.spans, key=lambda span: (span.kind, span.began_ns))


async def test_a_request_makes_a_span_of_its_own_and_one_of_the_models_work(
    traced: Stack, collector: Collector
) -> None:
    traced.engine.behave(Behaviour(prompt_tokens=7, cached_tokens=3, tokens=5))
    await traced.http.post(
        "/v1/chat/completions", json=chat(stream=True, max_tokens=50), headers={"x-session-id": "ses_1"}
    )
    (event,) = await traced.settled()
    request, work = await of(collector, 2)

    assert request.trace == work.trace == event.id.replace("-", "") == event.trace_id
    assert (request.kind, request.name, request.parent) == (SERVER, "POST /v1/chat/completions", "")
    assert (work.kind, work.name, work.parent) == (CLIENT, f"chat {MODEL}", request.id)
    assert request.began_ns <= work.began_ns <= work.ended_ns <= request.ended_ns
    assert not request.failed
    assert not work.failed
    assert work.resource["service.name"] == "headrace-gateway"
    assert work.attributes.pop("gen_ai.response.time_to_first_chunk") > 0
    assert work.attributes.pop("server.port") > 0
    assert work.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headrace",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.conversation.id": "ses_1",
        "gen_ai.response.id": event.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "headrace.request.id": event.id,
        "headrace.dialect": "openai.chat",
        "headrace.deployment.id": DEPLOYMENT.id,
        "server.address": "127.0.0.1",
    }
    told = read_traceparent(traced.engine.last.headers["traceparent"])
    assert told is not None
    assert (told.trace, told.span, told.sampled) == (work.trace, work.id, True)


async def test_a_clients_trace_goes_on_and_stands_in_the_usage_event(
    traced: Stack, collector: Collector
) -> None:
    sent = {"traceparent": SENT, "tracestate": "vendor=1"}
    await traced.http.post("/v1/chat/completions", json=chat(), headers=sent)
    (event,) = await traced.settled()
    request, work = await of(collector, 2)

    assert event.trace == event.trace_id == TRACE
    assert request.trace == work.trace == TRACE
    assert request.parent == "b7ad6b7169203331"
    assert traced.engine.last.headers["traceparent"] == f"00-{TRACE}-{work.id}-01"
    assert traced.engine.last.headers["tracestate"] == "vendor=1"


async def test_a_client_that_does_not_sample_is_followed(traced: Stack, collector: Collector) -> None:
    sent = {"traceparent": SENT.removesuffix("01") + "00"}
    await traced.http.post("/v1/chat/completions", json=chat(), headers=sent)
    await traced.settled()
    assert traced.engine.last.headers["traceparent"].endswith("-00")
    await traced.http.post("/v1/chat/completions", json=chat())
    await of(collector, 2)
    assert TRACE not in {span.trace for span in collector.spans}


async def test_what_failed_says_so_by_its_code(traced: Stack, collector: Collector) -> None:
    traced.engine.behave(Behaviour(status=500))
    reply = await traced.post()
    assert reply.status_code == 502
    request, work = await of(collector, 2)
    assert request.failed
    assert work.failed
    assert work.attributes["error.type"] == "upstream_failed"
    assert request.attributes["http.response.status_code"] == 502


async def test_what_is_refused_is_a_span_too_without_a_model_s_work(
    traced: Stack, collector: Collector
) -> None:
    reply = await traced.http.post(
        "/v1/chat/completions", json=chat(model="glm-none"), headers={"traceparent": SENT}
    )
    assert reply.status_code == 404
    broken = await traced.http.post("/v1/chat/completions", json={})
    theirs, ours = await of(collector, 2)
    assert (theirs.trace, theirs.parent, theirs.kind) == (TRACE, "b7ad6b7169203331", SERVER)
    assert theirs.attributes["error.type"] == "model_not_found"
    assert not theirs.failed, "it is the client's"
    assert (ours.parent, ours.attributes["error.type"]) == ("", "invalid_request")
    assert ours.trace == broken.headers["x-request-id"].replace("-", "") != TRACE
    assert theirs.attributes["headrace.request.id"] == reply.headers["x-request-id"]


async def test_a_fault_of_ours_before_admission_is_a_span_that_failed(
    traced: Stack, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Candidates, "calls", broken)
    reply = await traced.post()
    [request] = await of(collector, 1)
    assert request.failed
    assert request.attributes["error.type"] == reply.json()["error"]["code"] == "internal_error"
    assert request.attributes["headrace.request.id"] == reply.headers["x-request-id"]


async def test_a_request_tried_at_two_deployments_is_one_trace(traced: Stack, collector: Collector) -> None:
    traced.deploy(
        served_at("http://127.0.0.1:9", id="gone"), served_at(traced.engine.url, id="there", weight=0)
    )
    assert (await traced.post()).status_code == 200
    first, second = sorted(await traced.settled(2), key=lambda event: event.received_at_us)
    request, failed, served = await of(collector, 3)
    assert (failed.attributes["headrace.deployment.id"], failed.failed) == ("gone", True)
    assert served.attributes["headrace.deployment.id"] == "there"
    assert first.trace is None
    assert second.trace == first.trace_id == request.trace == failed.trace == served.trace


async def test_no_span_holds_a_prompt_an_answer_or_a_key(traced: Stack, collector: Collector) -> None:
    prompt = "the-secret-plan-of-the-customer"
    await traced.post(messages=[{"role": "user", "content": prompt}])
    await of(collector, 2)
    for secret in (prompt, "word", traced.account.secret):
        assert secret.encode() not in collector.raw


async def test_a_collector_that_is_gone_costs_spans_and_no_request(
    account: Account,
    settings: MeterSettings,
    unused_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    lost = spans_to_collector("headrace-gateway", "gateway-0")
    assert lost is not None
    async with running_stack(account, settings, unused_port(), spans=lost) as stack:
        for _ in range(3):
            assert (await stack.post()).status_code == 200
        await eventually(lambda: lost.lost >= 2)
    lost.close()


async def test_spans_wait_within_a_bound(
    unused_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(WAITING_MAX))
        waiting = CollectorSpans("headrace-gateway", "gateway-0")
        for _ in range(WAITING_MAX + 15):
            waiting.end(a_span())
        assert waiting.lost == 15
        waiting.close()


async def test_without_a_collector_a_clients_trace_goes_on_as_it_came(stack: Stack) -> None:
    await stack.http.post("/v1/chat/completions", json=chat(), headers={"traceparent": SENT})
    (event,) = await stack.settled()
    assert stack.engine.last.headers["traceparent"] == SENT
    assert event.trace == TRACE


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
    ],
)
def test_spans_are_made_where_opentelemetrys_own_variables_want_them(
    variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opened = spans_to_collector("headrace-gateway", "gateway-0")
    assert (opened is not None) is wanted
    if opened is not None:
        opened.close()


def test_of_traces_that_begin_here_the_told_share_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    spans = CollectorSpans("headrace-gateway", "gateway-0")
    # UUIDs of version 7, of which the variant's two bits are always the same.
    ids = [f"01a2154adabf7{n:03x}{0x8000000000000000 + (n << 50):016x}" for n in range(4096)]
    sampled = sum(spans.samples(each, None, "chat") for each in ids)
    assert 0.2 < sampled / len(ids) < 0.3
    spans.close()


def a_span() -> Span:
    return Span(
        name="chat", side=Side.CLIENT, trace=TRACE, id="00f067aa0ba902b7", parent=None, began_ns=1, ended_ns=2
    )
