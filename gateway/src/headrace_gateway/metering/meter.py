"""Metering's composition: `open_meter` is all that the gateway's application calls."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from headrace_contracts import channels
from headrace_gateway.keys.directory import Directory
from headrace_gateway.limits.limiter import Limiter
from headrace_gateway.limits.request_ids import RequestIds
from headrace_gateway.metering import producers
from headrace_gateway.metering.admission import GatewayMeter
from headrace_gateway.metering.heartbeat import beat
from headrace_gateway.metering.inflight import InflightTable
from headrace_gateway.metering.journal import Journal
from headrace_gateway.metering.recovery import Recovery
from headrace_gateway.metering.resend import Resender
from headrace_gateway.metering.revocation import PERIOD_SECONDS as REVOCATION_PERIOD_SECONDS
from headrace_gateway.metering.revocation import end_revoked
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.metering.settlement import Settler
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError

log = structlog.get_logger()

__all__ = ["GatewayMeter", "MeterSettings", "open_meter"]

# A start waits so long for its predecessor's requests to be settled; then it serves, and goes on settling.
RECOVERY_WAIT_SECONDS = 5.0
RECOVERY_PERIOD_SECONDS = 5.0
RESEND_PERIOD_SECONDS = 1.0


@contextlib.asynccontextmanager
async def open_meter(settings: MeterSettings) -> AsyncIterator[GatewayMeter]:
    """A worker process's meter. Leaving abandons what still runs to recovery: call `meter.close` first."""
    async with contextlib.AsyncExitStack() as stack:
        claim = await asyncio.to_thread(producers.claim_own, settings.state_dir, settings.name)
        stack.callback(claim.release)

        journal = await asyncio.to_thread(
            Journal, claim, segment_bytes=settings.segment_bytes, bytes_max=settings.journal_bytes_max
        )
        table = InflightTable(producers.table_path(claim.folder, journal.boot), slots=settings.inflight_slots)
        stack.callback(_close_table, table)
        journal.start()
        stack.push_async_callback(_close_journal, journal)

        valkey = Valkey(
            settings.valkey_url,
            timeout_seconds=settings.valkey_timeout_seconds,
            before_sending=journal.write,
        )
        await valkey.start()
        stack.push_async_callback(valkey.close)
        stack.push_async_callback(_leave, valkey, claim.producer)

        limiter = Limiter(
            valkey,
            gateway=claim.producer,
            lease_ttl_seconds=settings.lease_ttl_seconds,
            answers=settings.answers,
        )
        settler = Settler(limiter)
        request_ids = RequestIds(valkey)
        recovery = Recovery(
            claim, settings.state_dir, journal=journal, settler=settler, request_ids=request_ids
        )
        stack.callback(recovery.release, everything=True)
        meter = GatewayMeter(
            settings,
            directory=Directory(valkey),
            limiter=limiter,
            settler=settler,
            table=table,
            journal=journal,
            left_behind=lambda: recovery.dead,
            request_ids=request_ids,
        )
        resender = Resender(
            billing_url=settings.billing_url,
            ingest_token=settings.ingest_token,
            age_seconds=settings.resend_after_seconds,
        )

        async def heartbeat() -> None:
            await beat(meter, recovery.dead)
            request_ids.give_back_owed()

        async def reap() -> None:
            taken = await limiter.reap()
            if taken:
                meter.requests_reaped += len(taken)
                log.warning("leases_reaped", requests=taken)

        async def revocation() -> None:
            await end_revoked(meter)

        async def resend() -> None:
            # A cold Valkey waits for the journals before it opens.
            everything = meter.not_ready == "limits_rebuilding" or meter.closing
            await resender.round([journal, *recovery.dead], everything=everything)

        recovered = asyncio.Event()

        async def recover() -> None:
            await recovery.run()
            recovered.set()
            if not table.created:
                table.create()

        for name, period_seconds, step in (
            ("heartbeat", settings.heartbeat_seconds, heartbeat),
            ("reaper", settings.heartbeat_seconds, reap),
            ("revocation", REVOCATION_PERIOD_SECONDS, revocation),
            ("resend", RESEND_PERIOD_SECONDS, resend),
            ("recovery", RECOVERY_PERIOD_SECONDS, recover),
        ):
            task = asyncio.create_task(_forever(meter, name, period_seconds, step), name=name)
            stack.push_async_callback(_cancel, task)
        task = asyncio.create_task(settler.retry_forever(), name="settler")
        stack.push_async_callback(_cancel, task)

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(recovered.wait(), RECOVERY_WAIT_SECONDS)
        yield meter


async def _forever(
    meter: GatewayMeter, name: str, period_seconds: float, step: Callable[[], Awaitable[None]]
) -> None:
    # From the start on, so that a round that never comes shows.
    meter.rounds[name] = time.monotonic()
    while True:
        try:
            await step()
            meter.rounds[name] = time.monotonic()
        except ValkeyError as error:
            log.warning("round_failed", loop=name, error=str(error))
        except Exception:
            # A round that fails must not end the rounds: leases would lapse and journals pile up.
            log.exception("round_broke", loop=name)
        await asyncio.sleep(period_seconds)


async def _leave(valkey: Valkey, producer: str) -> None:
    """A cold Valkey need not wait for a gateway that ended well."""
    with contextlib.suppress(ValkeyError):
        await valkey.call("ZREM", channels.GATEWAYS, producer)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _close_journal(journal: Journal) -> None:
    journal.close()
    # The table hears of the last events that came to the disk before it is closed.
    await asyncio.sleep(0)


def _close_table(table: InflightTable) -> None:
    """Left for recovery if requests still stand in it."""
    running = table.running
    table.close()
    if not running:
        table.path.unlink(missing_ok=True)
