"""The composition root of billing's worker: a few loops, each of which may fail and come back by itself.

Each loop's state is in Postgres, so any number of workers may run, die at any moment, and be started again.
"""

import asyncio
import signal
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from headrace_billing.accounts import outbox
from headrace_billing.accounts.jobs import RestartWatch, load_if_cold
from headrace_billing.database import Database
from headrace_billing.ingest import journal_store
from headrace_billing.ingest.jobs import sweep_pending, take_from_stream, trim
from headrace_billing.ledger import spendable
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.ledger.notices import tell_low_balances
from headrace_billing.outcomes.jobs import pass_time
from headrace_billing.rating.jobs import put_into_force
from headrace_billing.settings import WorkerSettings
from headrace_billing.valkey import connect
from headrace_billing.webhooks.jobs import Courier, forget_old
from headrace_billing.webhooks.sending import Sender

log = structlog.get_logger()

BACKOFF_FIRST_SECONDS = 0.2
# Soon enough after an outage that nobody looks for another cause.
BACKOFF_MAX_SECONDS = 10.0

TRACEBACK_FRAMES_MAX = 12


@dataclass(frozen=True, slots=True)
class Loop:
    name: str
    step: Callable[[], Awaitable[object]]
    """Does one piece of work; what it returns is true if there may be more at once."""
    pause_seconds: float
    """Between two steps when there was nothing to do."""


async def run(settings: WorkerSettings) -> None:
    """Until SIGTERM or SIGINT; then each loop finishes the step that it is in."""
    database = Database(settings.database_url.get_secret_value())
    valkey = connect(settings.valkey_url.get_secret_value())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    restarts = RestartWatch()
    courier = Courier(
        database,
        Sender(allowed=settings.webhook_networks),
        signing_key=settings.signing_key_bytes,
        now=lambda: datetime.now(UTC),
    )
    loops = (
        Loop(
            "cold_load",
            lambda: load_if_cold(database, valkey, drain_wait_seconds=settings.drain_wait_seconds),
            0.5,
        ),
        Loop("restarts", lambda: _at_rest(restarts.repair(database, valkey)), 0.5),
        # The outbox first hears of a change here only if the request that made it could not push it.
        Loop("outbox", lambda: outbox.push_waiting(database, valkey), 0.5),
        Loop("balances", lambda: spendable.push_waiting(database, valkey), 0.5),
        Loop("journals", lambda: journal_store.publish_waiting(database, valkey), 0.5),
        # Waits in Valkey for the next entry, so it needs no pause of its own.
        Loop("stream", lambda: take_from_stream(database, valkey), 0.01),
        # After each batch anyway; this one is for whoever died between its commit and that.
        Loop("stream_trim", lambda: _at_rest(trim(database, valkey)), 5),
        Loop("pending_sweep", lambda: _at_rest(sweep_pending(database, valkey)), 5),
        Loop("outcomes", lambda: _at_rest(pass_time(database, valkey, now=lambda: datetime.now(UTC))), 1),
        Loop("prices", lambda: _at_rest(put_into_force(database, valkey, now=datetime.now(UTC))), 1),
        Loop("alerts", lambda: tell_low_balances(database, now=datetime.now(UTC)), 5),
        Loop("webhooks", courier.step, 1),
        Loop("webhook_messages", lambda: forget_old(database, now=datetime.now(UTC)), 3600),
        Loop("expiry", lambda: expire_lots(database, now=datetime.now(UTC)), 60),
    )
    try:
        log.info("worker_started")
        await run_loops(loops, stop)
        log.info("worker_stopped")
    finally:
        await courier.close()
        await valkey.aclose()
        await database.close()


async def run_loops(loops: Sequence[Loop], stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(supervise(loop, stop), name=loop.name)


async def supervise(loop: Loop, stop: asyncio.Event) -> None:
    """Runs the steps until `stop`; whatever a step raises is logged, and tried again after a growing pause."""
    backoff = BACKOFF_FIRST_SECONDS
    while not stop.is_set():
        try:
            pause = 0.0 if await loop.step() else loop.pause_seconds
            backoff = BACKOFF_FIRST_SECONDS
        except Exception:  # noqa: BLE001 - whatever it is, the loop comes back
            # As text: a structured traceback would hold the values of local variables, secrets among them.
            log.error(  # noqa: TRY400
                "worker_step_failed",
                loop=loop.name,
                retry_in_seconds=backoff,
                traceback=traceback.format_exc(limit=-TRACEBACK_FRAMES_MAX),
            )
            pause, backoff = backoff, min(backoff * 2, BACKOFF_MAX_SECONDS)
        if pause:
            await _either(stop, pause)


async def _either(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def _at_rest(work: Awaitable[object]) -> None:
    """Work that starts over each time, and so never has more at once."""
    await work
