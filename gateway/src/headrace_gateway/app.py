"""The gateway's composition root: builds everything of one worker process, runs it, takes it down in order."""

import asyncio
import contextlib
import gc
import socket

import structlog

from headrace_gateway.guardrails.guards import Guards, open_guards
from headrace_gateway.http.batches import Batches
from headrace_gateway.http.bodies import Bodies
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.inference import Inference, InferenceBounds
from headrace_gateway.http.large_bodies import LargeBodies
from headrace_gateway.http.models import Models
from headrace_gateway.http.responses import Responses
from headrace_gateway.http.router import Gateway
from headrace_gateway.http.server import Listening, serve, stop_on_signals
from headrace_gateway.http.signed_tokens import SignedTokens
from headrace_gateway.http.token_counts import TokenCounts
from headrace_gateway.http.trace import Traces
from headrace_gateway.limits.idempotency import AnswerBounds
from headrace_gateway.metering.meter import GatewayMeter, MeterSettings, open_meter
from headrace_gateway.metrics.catalogue import CATALOGUE
from headrace_gateway.metrics.link import answer_forever
from headrace_gateway.metrics.reading import Reading
from headrace_gateway.responses.store import ResponseStore, StoreBounds
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.lines import Lines, QueueBounds
from headrace_gateway.routing.upstream.client import Upstream, UpstreamBounds, UpstreamTimeouts
from headrace_gateway.settings import GatewaySettings
from headrace_telemetry.scrape import serve_metrics
from headrace_telemetry.traces import spans_to_collector

log = structlog.get_logger()

GARBAGE_ALLOCATIONS = 20_000
"""Between two looks for garbage in cycles. A request leaves none on its way, so Python's own 700 are a look every
tenth request that finds nothing; errors do leave some, a few kilobytes each."""


BILLING_SECONDS = 60.0
BILLING_CONNECTIONS_MAX = 32
"""Files that are on their way at once: each takes a share of the time that requests to models want. A quarter at most
are one organisation's."""


async def run(settings: GatewaySettings, *, asked_at: socket.socket | None = None) -> int:
    """Serves until SIGTERM; the process's exit status. `asked_at`: where a parent asks this worker for its metrics."""
    stop = stop_on_signals()
    deployments = DeploymentsFile(settings.deployments)
    guards = open_guards(settings.guardrails)
    async with open_meter(_meter_settings(settings)) as meter, contextlib.AsyncExitStack() as stack:
        upstream, billing = _upstream(settings), _billing(settings)
        stack.callback(upstream.close)
        stack.callback(billing.close)
        reading = asyncio.create_task(deployments.keep_reading(), name="deployments")
        stack.callback(reading.cancel)
        spans = spans_to_collector("headrace-gateway", meter.limiter.gateway)
        if spans is not None:
            stack.callback(spans.close)
        large_bodies = LargeBodies(bytes_max=settings.bodies_bytes_max)
        inference = _inference(
            settings,
            meter,
            deployments,
            upstream,
            large_bodies=large_bodies,
            traces=Traces(spans),
            guards=guards,
        )
        gateway = _gateway(
            settings, meter, deployments, upstream, inference, billing=billing, large_bodies=large_bodies
        )
        reading_metrics = Reading(meter, inference, deployments, spans).from_thread(
            asyncio.get_running_loop()
        )
        if asked_at is not None:
            # The kernel tells it too, but not to one that was still starting when its parent ended.
            loop = asyncio.get_running_loop()
            answer_forever(asked_at, reading_metrics, parent_gone=lambda: loop.call_soon_threadsafe(stop.set))
        elif settings.metrics_port is not None:
            host = str(settings.metrics_host)
            scraping = serve_metrics(CATALOGUE, reading_metrics, host=host, port=settings.metrics_port)
            stack.push_async_callback(asyncio.to_thread, scraping.close)
        _spare_the_collector()
        log.info("gateway_started", host=str(settings.host), port=settings.port, name=settings.name)
        finished = await serve(gateway, _listening(settings), stop=stop)
        drained = await meter.close(settings.drain_seconds)
        log.info("gateway_stopped", finished=finished, drained=drained)
    return 0


def _spare_the_collector() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_ALLOCATIONS, 10, 10)


def _bounds(settings: GatewaySettings) -> InferenceBounds:
    return InferenceBounds(
        body_bytes_max=settings.body_bytes_max,
        body_timeout_seconds=settings.body_timeout_seconds,
        reply_bytes_max=settings.reply_bytes_max,
        request_timeout_seconds=settings.request_timeout_seconds,
        audio_body_bytes_max=settings.audio_body_bytes_max,
        image_hosts=settings.image_hosts,
    )


def _inference(
    settings: GatewaySettings,
    meter: GatewayMeter,
    deployments: DeploymentsFile,
    upstream: Upstream,
    *,
    large_bodies: LargeBodies,
    traces: Traces,
    guards: Guards,
) -> Inference:
    addresses = _addresses(settings)
    kept = StoreBounds(
        org_bytes_max=settings.responses_org_bytes_max, all_bytes_max=settings.responses_bytes_max
    )
    responses = Responses(meter, ResponseStore(meter.limiter.valkey, bounds=kept), addresses)
    lines = Lines(
        meter.limiter,
        QueueBounds(
            wait_seconds=settings.queue_wait_seconds,
            requests_max=settings.queue_requests_max,
            org_requests_max=settings.queue_org_requests_max,
        ),
        newest=deployments.newest,
    )
    return Inference(
        meter,
        deployments,
        upstream,
        _bounds(settings),
        addresses,
        responses=responses,
        large_bodies=large_bodies,
        lines=lines,
        traces=traces,
        guards=guards,
    )


def _gateway(
    settings: GatewaySettings,
    meter: GatewayMeter,
    deployments: DeploymentsFile,
    upstream: Upstream,
    inference: Inference,
    *,
    billing: Upstream,
    large_bodies: LargeBodies,
) -> Gateway:
    bodies = Bodies(_bounds(settings), large_bodies)
    addresses = _addresses(settings)
    return Gateway(
        inference,
        TokenCounts(meter, deployments, upstream, bodies, addresses, image_hosts=settings.image_hosts),
        Models(meter, deployments, addresses),
        responses=inference.responses,
        batches=Batches(
            meter,
            billing,
            addresses,
            billing_url=settings.billing_url,
            secret=settings.ingest_token.get_secret_value(),
            org_requests_max=BILLING_CONNECTIONS_MAX // 4,
        ),
        signed=SignedTokens(settings.token_signing_secret_bytes),
        not_admitting=lambda: meter.not_ready,
    )


def _addresses(settings: GatewaySettings) -> ClientAddresses:
    return ClientAddresses(settings.trusted_proxies, batch_secret=settings.ingest_token.get_secret_value())


def _billing(settings: GatewaySettings) -> Upstream:
    """For files and batches, whose requests are a matter of the database's time and not of an engine's."""
    return Upstream(
        UpstreamTimeouts(
            connect=settings.connect_timeout_seconds,
            first_byte=BILLING_SECONDS,
            idle=BILLING_SECONDS,
        ),
        UpstreamBounds(connections_max=BILLING_CONNECTIONS_MAX, keep_idle_seconds=settings.keep_idle_seconds),
    )


def _upstream(settings: GatewaySettings) -> Upstream:
    return Upstream(
        UpstreamTimeouts(
            connect=settings.connect_timeout_seconds,
            first_byte=settings.first_byte_timeout_seconds,
            idle=settings.idle_timeout_seconds,
        ),
        UpstreamBounds(
            # Every request that runs has at most one, so this bounds only what would be a bug of ours.
            connections_max=settings.connections_max,
            keep_idle_seconds=settings.keep_idle_seconds,
        ),
    )


def _meter_settings(settings: GatewaySettings) -> MeterSettings:
    return MeterSettings(
        name=settings.name,
        state_dir=settings.state_dir,
        valkey_url=settings.valkey_url.get_secret_value(),
        billing_url=settings.billing_url,
        ingest_token=settings.ingest_token.get_secret_value(),
        inflight_slots=settings.connections_max,
        segment_bytes=settings.journal_segment_bytes,
        journal_bytes_max=settings.journal_bytes_max,
        answers=AnswerBounds(
            org_bytes_max=settings.answers_org_bytes_max, all_bytes_max=settings.answers_bytes_max
        ),
    )


def _listening(settings: GatewaySettings) -> Listening:
    return Listening(
        host=str(settings.host),
        port=settings.port,
        connections_max=settings.connections_max,
        head_timeout_seconds=settings.head_timeout_seconds,
        grace_seconds=settings.grace_seconds,
        port_shared=settings.workers > 1,
    )
