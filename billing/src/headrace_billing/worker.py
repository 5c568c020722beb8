"""The composition root of billing's worker: a few loops, each of which may fail and come back by itself.

Each loop's state is in Postgres, so any number of workers may run, die at any moment, and be started again.
"""

import asyncio
import gc
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from headrace_billing.accounts import outbox
from headrace_billing.accounts.jobs import RestartWatch, load_if_cold
from headrace_billing.batches.jobs import Batches
from headrace_billing.charges.recognising import recognise_over
from headrace_billing.clock.movable import MovableClock
from headrace_billing.clock.store import FOLLOW_SECONDS, follow
from headrace_billing.contracts.jobs import assess_contracts, turn_periods
from headrace_billing.database import Database
from headrace_billing.ingest import journal_store
from headrace_billing.ingest.jobs import sweep_pending, take_from_stream, trim
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.jobs import finalise_due
from headrace_billing.ledger import spendable
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.ledger.notices import tell_low_balances
from headrace_billing.metrics.catalogue import CATALOGUE
from headrace_billing.metrics.figures import Figures
from headrace_billing.metrics.http import connections
from headrace_billing.metrics.loops import LoopCounts
from headrace_billing.outcomes.jobs import pass_time
from headrace_billing.payments import jobs as payments
from headrace_billing.payments.collecting import dun
from headrace_billing.payments.disputing import find_unheard
from headrace_billing.payments.reconciling import reconcile_payments
from headrace_billing.payments.stripe_api import connected
from headrace_billing.payments.tax_adapter import tax_adapter
from headrace_billing.payments.tax_filing import file_due
from headrace_billing.payments.till import Till
from headrace_billing.plans import jobs as plans
from headrace_billing.plans.sign_up_jobs import settle_sign_ups
from headrace_billing.rating.jobs import put_into_force
from headrace_billing.reconciliation.jobs import look_around
from headrace_billing.reconciliation.many import Lookout
from headrace_billing.settings import WorkerSettings
from headrace_billing.valkey import connect
from headrace_billing.webhooks.jobs import Courier, forget_old
from headrace_billing.webhooks.sending import Sender
from headrace_telemetry.metrics import Sample
from headrace_telemetry.scrape import serve_metrics

log = structlog.get_logger()

BACKOFF_FIRST_SECONDS = 0.2
# Soon enough after an outage that nobody looks for another cause.
BACKOFF_MAX_SECONDS = 10.0

TRACEBACK_FRAMES_MAX = 12

# A batch of usage costs this process and Postgres some milliseconds before its first event. Read as they come, eighty
# events a second took six tenths of a core; gathered, two.
GATHER_SECONDS = 0.2
# So many are worth a batch of their own.
GATHERED_MAX = 500

# A batch of usage is some hundred thousand objects that all die with it, and none of them in a cycle: at Python's own
# threshold of 700 the collector walks over them again and again, which was a third of what an event cost.
COLLECT_AFTER_OBJECTS = 100_000


@dataclass(frozen=True, slots=True)
class Loop:
    name: str
    step: Callable[[], Awaitable[object]]
    """Does one piece of work; what it returns is true if there may be more at once."""
    pause_seconds: float
    """Between two steps when there was nothing to do."""
    rest_times: float = 0
    """The pause is at least so many times as long as the step was: the loop takes no larger share of the time."""


async def run(settings: WorkerSettings) -> None:
    """Until SIGTERM or SIGINT; then each loop finishes the step that it is in."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *gc.get_threshold()[1:])
    database = Database(settings.database_url.get_secret_value())
    valkey = connect(settings.valkey_url.get_secret_value())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    restarts, figures, counts = RestartWatch(), Figures(), LoopCounts()
    clock = MovableClock() if settings.test_clock else None
    now: Callable[[], datetime] = clock or (lambda: datetime.now(UTC))
    stripe = connected(settings.stripe_access)
    books = Books(database, tax_adapter(settings.tax_adapter, stripe), test=settings.test_clock)
    lookout = Lookout()
    courier = Courier(
        database,
        Sender(allowed=settings.webhook_networks),
        signing_key=settings.signing_key_bytes,
        now=now,
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
        Loop("stream", lambda: _piled_up(take_from_stream(database, valkey)), GATHER_SECONDS),
        # After each batch anyway; this one is for whoever died between its commit and that.
        Loop("stream_trim", lambda: _at_rest(trim(database, valkey)), 5),
        # All that is pending is looked up, which takes a while when the stream has piled up.
        Loop("pending_sweep", lambda: _at_rest(sweep_pending(database, valkey)), 5, rest_times=20),
        Loop("outcomes", lambda: _at_rest(pass_time(database, valkey, now=now)), 1),
        Loop("prices", lambda: _at_rest(put_into_force(database, valkey, now=now())), 1),
        Loop("subscriptions", lambda: plans.pass_time(database, valkey, now=now()), 1),
        Loop("sign_ups", lambda: settle_sign_ups(books, now=now()), 1),
        Loop("alerts", lambda: tell_low_balances(database, now=now()), 5),
        Loop("contract_periods", lambda: turn_periods(database, valkey, now=now()), 1),
        Loop("contract_dues", lambda: assess_contracts(database, now=now()), 30, rest_times=20),
        Loop("invoices", lambda: finalise_due(books, now=now(), lookout=lookout), 5),
        *(() if clock is None else (Loop("test_clock", lambda: follow(database, clock), FOLLOW_SECONDS),)),
        Loop(
            "reconciliation",
            lambda: _at_rest(look_around(database, now=now())),
            30,
            rest_times=20,
        ),
        Loop("webhooks", courier.step, 1),
        Loop("webhook_messages", lambda: forget_old(database, now=now()), 3600),
        Loop("recognition", lambda: recognise_over(database, now=now()), 300),
        Loop("expiry", lambda: expire_lots(database, now=now()), 60),
        *(
            ()
            if settings.metrics_port is None
            else (Loop("figures", lambda: figures.look(database, valkey), 15),)
        ),
    )

    batches = _batches_of(settings, database, now)
    if batches is not None:
        loops = (*loops, *_batches(batches))

    def samples() -> list[Sample]:
        sent = () if batches is None else batches.dispatcher.samples()
        return [*counts.samples(), *figures.samples(), *connections(database), *sent]

    if stripe is not None:
        loops = (*loops, *_payments(Till(database, valkey, stripe), now))
    try:
        with ExitStack() as stack:
            if settings.metrics_port is not None:
                host = str(settings.metrics_host)
                scraping = serve_metrics(CATALOGUE, samples, host=host, port=settings.metrics_port)
                stack.callback(scraping.close)
            log.info("worker_started", payments=stripe is not None)
            await run_loops(loops, stop, counts)
        log.info("worker_stopped")
    finally:
        if stripe is not None:
            stripe.close()
        await courier.close()
        if batches is not None:
            await batches.close()
        await valkey.aclose()
        await database.close()


def _batches_of(settings: WorkerSettings, database: Database, now: Callable[[], datetime]) -> Batches | None:
    """Null where no gateway is known."""
    if settings.batch_bounds is None or settings.gateway_url is None or settings.ingest_token is None:
        return None
    return Batches.through(
        settings.gateway_url,
        settings.ingest_token.get_secret_value(),
        database=database,
        at_once_max=settings.batch_requests_max,
        bounds=settings.batch_bounds,
        now=now,
    )


def _batches(batches: Batches) -> tuple[Loop, ...]:
    return (
        Loop("batch_files", batches.validate, 1),
        Loop("batch_requests", batches.dispatcher.step, 0.5),
        Loop("batch_ends", batches.end, 1),
        Loop("files", batches.forget_files, 60),
    )


def _payments(till: Till, now: Callable[[], datetime]) -> tuple[Loop, ...]:
    """What a webhook tells of is looked at within a second; where none comes, in growing steps."""
    return (
        Loop("top_ups", lambda: payments.look_at_top_ups(till, now=now()), 1),
        Loop("refunds", lambda: payments.look_at_refunds(till, now=now()), 1),
        Loop("disputes", lambda: payments.look_at_disputes(till, now=now()), 1),
        Loop("tax_filings", lambda: file_due(till.database, till.stripe, now=now()), 5),
        Loop("dunning", lambda: dun(till, now=now()), 5),
        Loop("auto_top_ups", lambda: _at_rest(payments.start_auto_top_ups(till, now=now())), 5),
        Loop("disputes_unheard", lambda: _at_rest(find_unheard(till, now=now())), 3600),
        Loop("payments_reconciled", lambda: _at_rest(reconcile_payments(till, now=now())), 3600),
    )


async def run_loops(loops: Sequence[Loop], stop: asyncio.Event, counts: LoopCounts) -> None:
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(supervise(loop, stop, counts), name=loop.name)


async def supervise(loop: Loop, stop: asyncio.Event, counts: LoopCounts) -> None:
    """Runs the steps until `stop`; whatever a step raises is logged, and tried again after a growing pause."""
    backoff = BACKOFF_FIRST_SECONDS
    counts.begun(loop.name)
    while not stop.is_set():
        try:
            begun = time.monotonic()
            more = await loop.step()
            rest = loop.rest_times * (time.monotonic() - begun)
            pause = 0.0 if more else max(loop.pause_seconds, rest)
            counts.went_well(loop.name)
            backoff = BACKOFF_FIRST_SECONDS
        except Exception:  # noqa: BLE001 - whatever it is, the loop comes back
            counts.failed(loop.name)
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


async def _piled_up(taking: Awaitable[int]) -> bool:
    """Whether so many were taken that waiting for others would be no gain."""
    return await taking > GATHERED_MAX


async def _at_rest(work: Awaitable[object]) -> None:
    """Work that starts over each time, and so never has more at once."""
    await work
