"""A meter whose report was cut off by a kill -9 sends it again, and nothing is lost or doubled."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import httpx2
import pytest
from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_contracts import channels
from tests.billing.clock import Clock
from tests.billing.ingest.test_batch import balances
from tests.billing.meters.killed_api import MOMENT
from tests.billing.meters.reporter import Reporter, outcomes
from tests.billing.meters.test_reporting import SPENT
from tests.billing.test_processes import environment, running, until


@pytest.mark.parametrize(
    ("moment", "booked", "again"),
    [("before the commit", 0, ["accepted"] * 2), ("after the commit", 2, ["duplicate"] * 2)],
)
async def test_a_report_that_was_cut_off_is_sent_again_and_counts_once(
    *,
    reporter: Reporter,
    clock: Clock,
    database: Database,
    database_url: str,
    valkey: Redis,
    valkey_url: str,
    unused_port: Callable[[], int],
    moment: str,
    booked: int,
    again: list[str],
) -> None:
    port = unused_port()
    await valkey.set(channels.EPOCH, "1")
    # The process that is killed goes by the time of day, and so does the one that is asked again.
    clock.now = datetime.now(UTC)
    events = [reporter.event(at=clock.now, sequence=number) for number in ("1", "2")]
    env = {**environment(database_url, valkey_url, port), MOMENT: moment}
    with running("tests.billing.meters.killed_api", env=env):
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def answers() -> bool:
                with suppress(httpx2.TransportError):
                    return (await http.get("/healthz")).status_code == 200
                return False

            await until(answers)
            cut_off = Reporter(http, reporter.id, reporter.token, reporter.customer)
            with pytest.raises(httpx2.TransportError):
                await cut_off.report(*events)
    assert (await balances(database)).get("unbilled", 0) == booked * SPENT
    assert outcomes(await reporter.report(*events)) == again
    assert (await balances(database))["unbilled"] == 2 * SPENT
