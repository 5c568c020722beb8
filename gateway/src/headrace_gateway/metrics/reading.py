"""All of a worker process's samples at one moment.

What must stay true: they are taken in the loop, between two steps of whatever runs, so that nothing changes meanwhile;
that takes a fraction of a millisecond. Making text of them is left to the thread that asked.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator

from headrace_gateway.http.inference import Inference
from headrace_gateway.metering.admission import GatewayMeter
from headrace_gateway.metrics import catalogue
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_telemetry.metrics import Sample, sample
from headrace_telemetry.traces import Spans

READ_SECONDS_MAX = 2.0
"""A loop that is held up for longer is out of order, and a scrape that fails says so."""


class Reading:
    def __init__(
        self,
        meter: GatewayMeter,
        inference: Inference,
        deployments: DeploymentsFile,
        spans: Spans | None,
    ) -> None:
        self._meter = meter
        self._inference = inference
        self._deployments = deployments
        self._spans = spans

    def from_thread(self, loop: asyncio.AbstractEventLoop) -> Callable[[], list[Sample]]:
        """For threads other than the loop's. Raises `TimeoutError`, or `RuntimeError` when the loop is closed."""

        def read() -> list[Sample]:
            found: concurrent.futures.Future[list[Sample]] = concurrent.futures.Future()
            loop.call_soon_threadsafe(self._answer, found)
            return found.result(READ_SECONDS_MAX)

        return read

    def samples(self) -> Iterator[Sample]:
        yield sample(catalogue.WORKERS, 1)
        yield from self._meter.requests.samples()
        yield from self._metering()
        yield from self._routing()
        yield sample(catalogue.RESPONSES_LOST, self._inference.responses.lost)
        if self._spans is not None:
            yield sample(catalogue.SPANS_LOST, self._spans.lost)

    def _answer(self, found: concurrent.futures.Future[list[Sample]]) -> None:
        try:
            found.set_result(list(self.samples()))
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            found.set_exception(error)

    def _metering(self) -> Iterator[Sample]:
        meter, journal, settler = self._meter, self._meter.journal, self._meter.settler
        now = time.monotonic()
        yield sample(catalogue.PLACES, meter.settings.inflight_slots)
        yield sample(catalogue.ADMITTING, meter.not_ready is None)
        yield sample(catalogue.VALKEY, meter.limiter.valkey.connected)
        yield sample(catalogue.VALKEY_CALLS, meter.limiter.valkey.calls_outstanding)
        for loop, at in meter.rounds.items():
            yield sample(catalogue.ROUND_AGE, now - at, loop)
        yield sample(catalogue.REAPED, meter.requests_reaped)
        yield sample(catalogue.UNSETTLED, settler.outstanding)
        since = settler.waiting_since
        yield sample(catalogue.SETTLEMENT_AGE, 0.0 if since is None else now - since)
        yield sample(catalogue.SETTLEMENTS_GIVEN_UP, settler.given_up)
        yield sample(catalogue.JOURNAL_BYTES, journal.size_bytes)
        yield sample(catalogue.JOURNAL_BYTES_MAX, journal.size_bytes_max)
        unacknowledged = [one.last_sequence - one.acknowledged for one in (journal, *meter.left_behind())]
        yield sample(catalogue.JOURNAL_UNACKNOWLEDGED, sum(unacknowledged))
        yield sample(catalogue.JOURNAL_AGE, journal.lag_seconds)
        yield sample(catalogue.JOURNAL_WRITABLE, journal.writable)

    def _routing(self) -> Iterator[Sample]:
        yield sample(catalogue.TABLES_UNREAD, self._deployments.unreadable)
        for deployment in self._deployments.current.every:
            yield sample(catalogue.QUEUED, self._inference.lines.count_at(deployment), deployment.id)
            yield sample(catalogue.LEFT_ALONE, not self._inference.breakers.allows(deployment), deployment.id)
            if deployment.slots is not None:
                yield sample(catalogue.SLOTS, deployment.slots, deployment.id)
