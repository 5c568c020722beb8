"""`headrace reconcile`, asking a billing that runs."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from sqlalchemy import text
from typer.testing import CliRunner, Result

from headrace_billing.database import Database
from headrace_contracts.endpoints import Endpoints
from headrace_platform.cli import app
from headrace_platform.local.state import State
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import ADMIN_TOKEN
from tests.billing.test_processes import environment, running, until


def reconcile(state: State, *more: str) -> Result:
    fixed = {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(app, ["reconcile", "--state", str(state.root), *more], env=fixed)


async def test_the_command_shows_every_stage_and_its_exit_status_tells_whether_one_is_red(
    *,
    gateway: Gateway,
    database: Database,
    database_url: str,
    valkey_url: str,
    tmp_path: Path,
    unused_port: Callable[[], int],
) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    state = State.at(tmp_path / "state")
    state.create()
    state.keep_endpoints(
        Endpoints(
            gateway_url="http://127.0.0.1:1",
            billing_url=url,
            console_url=None,
            api_key=None,
            admin_token=ADMIN_TOKEN,
            database_url=database_url,
            valkey_url=valkey_url,
            model="glm-tiny",
        )
    )
    event = gateway.event()
    await take(database, event)
    await tell(database, yielded(event))
    with running("headrace_billing", "api", env=environment(database_url, valkey_url, port)):
        async with httpx2.AsyncClient(base_url=url) as http:

            async def answers() -> bool:
                try:
                    return (await http.get("/healthz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(answers)
        green = await asyncio.to_thread(reconcile, state)
        assert green.exit_code == 0, green.output
        assert "engine ■ events ■ rollups ■ rated ■ ledger ■ invoices · Stripe" in green.output
        assert "not used" in green.output
        assert ADMIN_TOKEN not in green.output
        seen = json.loads((await asyncio.to_thread(reconcile, state, "--json")).output)
        assert seen["status"] == "green"
        await take(database, gateway.event(received_at=datetime.now(UTC), witnessed=False))
        unwitnessed = await asyncio.to_thread(reconcile, state)
        assert unwitnessed.exit_code == 0, unwitnessed.output
        assert "engine □ events ■ rollups" in unwitnessed.output
        assert "□ 1 requests: no engine record to compare with" in unwitnessed.output
        async with database.begin() as session:
            await session.execute(text("UPDATE rated_usage SET charge_nanos = charge_nanos + 1"))
        red = await asyncio.to_thread(reconcile, state)
        assert red.exit_code == 1
        assert "rollups ✗ rated ✗ ledger ✗ invoices" in red.output
        assert "books_differ" in red.output
    gone = await asyncio.to_thread(reconcile, state)
    assert gone.exit_code == 1
    assert "headrace status" in gone.output
