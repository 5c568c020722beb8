"""Several workers, one scrape: their sum, which never falls when one of them dies."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from headrace_gateway.metrics.catalogue import CATALOGUE
from headrace_gateway.metrics.link import Workers, answer_forever
from headrace_telemetry.metrics import Kind, Merge, Sample, merged
from tests.gateway.http.stack import chat
from tests.gateway.http.test_process import Launcher, launcher
from tests.support.metrics import scrape, total, value

__all__ = ["launcher"]

REQUESTS = "headrace_gateway_requests_total"
LABELS = ("openai.chat", "glm", "dep", "completed")


async def test_a_scrape_tells_the_sum_of_all_workers_and_keeps_it_when_one_is_killed(
    launcher: Launcher, unused_port: Callable[[], int]
) -> None:
    port = unused_port()

    async def requests() -> float:
        return total(await asyncio.to_thread(scrape, port), REQUESTS)

    async with launcher.gateway(workers="2", metrics_port=str(port)) as gateway:
        for _ in range(12):
            # A connection each, so that the kernel shares them out.
            reply = await gateway.http.post(
                "/v1/chat/completions", json=chat(), headers={"connection": "close"}
            )
            assert reply.status_code == 200
        # A worker that answers too late and was not heard before is not told of yet.
        async with asyncio.timeout(60):
            while await requests() < 12:  # noqa: ASYNC110 - it is in other processes
                await asyncio.sleep(0.05)
        seen = await asyncio.to_thread(scrape, port)
        assert total(seen, REQUESTS) == 12
        assert value(seen, "headrace_gateway_workers") == 2

        psutil.Process(gateway.process.pid).children()[0].send_signal(signal.SIGKILL)
        until = time.monotonic() + 60
        while value(await asyncio.to_thread(scrape, port), "headrace_gateway_workers") != 2 or (
            len(psutil.Process(gateway.process.pid).children()) != 2
        ):
            assert await requests() == 12
            assert time.monotonic() < until
        assert await requests() == 12
        gateway.terminate()
        assert await gateway.ended() == 0


class Worker:
    """One that answers as it is told, over a real pair of sockets."""

    def __init__(self, workers: Workers, pid: int) -> None:
        self.samples: list[Sample] = []
        ours, theirs = socket.socketpair()
        workers.joined(pid, ours)
        self.thread = answer_forever(theirs, self.read, parent_gone=lambda: None)
        self.answers = threading.Event()
        self.answers.set()

    def read(self) -> list[Sample]:
        self.answers.wait(60)
        return self.samples


def of(samples: list[Sample], metric: str) -> float:
    (found,) = [one for one in samples if one.metric == metric]
    return found.value


def test_what_a_dead_worker_counted_stays_and_what_it_had_goes() -> None:
    workers = Workers()
    first, second = Worker(workers, 1), Worker(workers, 2)
    first.samples = [Sample(REQUESTS, LABELS, 5.0), Sample("headrace_gateway_journal_bytes", (), 100.0)]
    second.samples = [Sample(REQUESTS, LABELS, 7.0), Sample("headrace_gateway_journal_bytes", (), 10.0)]
    assert of(workers.read(), REQUESTS) == 12
    workers.died(1)
    first.thread.join(30)
    assert not first.thread.is_alive()
    now = workers.read()
    assert (of(now, REQUESTS), of(now, "headrace_gateway_journal_bytes")) == (12, 10)
    third = Worker(workers, 3)
    third.samples = [Sample(REQUESTS, LABELS, 1.0)]
    assert of(workers.read(), REQUESTS) == 13
    workers.died(2)
    workers.died(3)


def test_a_worker_that_answers_too_late_is_told_as_it_was_and_understood_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace_gateway.metrics.link.ANSWER_SECONDS_MAX", 20)
    workers = Workers()
    worker = Worker(workers, 1)
    worker.samples = [Sample(REQUESTS, LABELS, 1.0)]
    assert of(workers.read(), REQUESTS) == 1
    worker.answers.clear()
    worker.samples = [Sample(REQUESTS, LABELS, 2.0)]
    workers._links[1]._connection.settimeout(0.1)
    assert of(workers.read(), REQUESTS) == 1
    worker.answers.set()
    until = time.monotonic() + 30
    while of(workers.read(), REQUESTS) != 2:
        assert time.monotonic() < until
    workers.died(1)


@pytest.mark.parametrize(("merge", "both"), [(Merge.SUM, 5.0), (Merge.MAX, 4.0), (Merge.MIN, 1.0)])
def test_gauges_of_workers_are_merged_as_their_meaning_wants(merge: Merge, both: float) -> None:
    metric = next(m for m in CATALOGUE.values() if m.kind is Kind.GAUGE and m.merge is merge)
    labels = tuple("x" for _ in metric.labels)
    (one,) = merged(CATALOGUE, [[Sample(metric.name, labels, 1.0)], [Sample(metric.name, labels, 4.0)]])
    assert one.value == both


async def test_metrics_may_not_be_on_the_public_port(launcher: Launcher) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace_gateway"),
        env={
            **os.environ,
            **launcher.environment,
            "HEADRACE_GATEWAY_METRICS_PORT": launcher.environment["HEADRACE_GATEWAY_PORT"],
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"metrics_port: must be another than port" in told


async def test_a_worker_whose_parent_ended_while_it_started_ends_too(launcher: Launcher) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace_gateway", "--worker", str(theirs.fileno())),
            env={**os.environ, **launcher.environment},
            pass_fds=[theirs.fileno()],
        )
    assert await asyncio.wait_for(process.wait(), 60) == 0
