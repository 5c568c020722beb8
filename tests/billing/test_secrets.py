"""No secret and no customer's own words are in any line that billing's processes log, whatever goes wrong."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from redis.asyncio import Redis

from headrace_contracts import channels
from headrace_contracts.usage import encode_event
from tests.billing.ingest.test_jobs import append
from tests.billing.ingest.usage import Gateway
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, MODEL, Seller
from tests.billing.test_processes import environment, until
from tests.support.processes import end

STRANGER = "hr-" + "s" * 43
PRIVATE = "what-the-customer-wrote"
PASSWORD = "pass-of-the-database"


@contextmanager
def logging_to(path: Path, program: str, env: dict[str, str]) -> Iterator[None]:
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace_billing", program], env=env, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        end(process)


async def test_neither_secrets_nor_customers_words_are_logged(
    database_url: str, valkey: Redis, valkey_url: str, unused_port: Callable[[], int], tmp_path: Path
) -> None:
    port = unused_port()
    env = environment(database_url, valkey_url, port) | {"HEADRACE_LOG_LEVEL": "debug"}
    log = tmp_path / "log"
    with logging_to(log, "api", env), logging_to(log, "worker", env):
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            secrets = await _everything_goes_wrong(http, valkey)
            await until(lambda: _trimmed(valkey))
    # And one that can't reach its database, whose address holds a password.
    broken = env | {"HEADRACE_BILLING_DATABASE_URL": f"postgresql://someone:{PASSWORD}@127.0.0.1:9/none"}
    with logging_to(log, "worker", broken):
        await until(lambda: _says(log, "worker_step_failed"))

    text = await asyncio.to_thread(log.read_text)
    assert "usage_quarantined" in text
    for secret in (*secrets, env["HEADRACE_BILLING_SIGNING_KEY"], PASSWORD):
        assert secret not in text, secret
    ours = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert {line["service"] for line in ours} == {"billing-api", "billing-worker"}


async def _everything_goes_wrong(http: httpx2.AsyncClient, valkey: Redis) -> list[str]:
    """What must be in no line."""
    seller = Seller(http)
    await until(lambda: _answers(http))
    gateway = Gateway(await seller.customer(), await seller.publish_prices())
    await valkey.set(channels.EPOCH, "1")
    secret = gateway.customer.secret
    for token in (STRANGER, secret, ADMIN_TOKEN, INGEST_TOKEN):
        asker = Seller(http, token=token)
        for method, path, body in (
            ("GET", "/v1/usage?start=2026-11-01T00:00:00Z&end=2026-11-02T00:00:00Z", None),
            (
                "GET",
                f"/v1/usage?start=2026-11-01T00:00:00Z&end=2026-11-02T00:00:00Z&end_user={PRIVATE}",
                None,
            ),
            ("POST", "/v1/keys", {"project": PRIVATE, "name": PRIVATE}),
            ("POST", "/v1/price-books", {"currency": "USD", "models": {MODEL: {"output": PRIVATE}}}),
            ("POST", "/internal/v1/usage-events", {"events": [{"id": PRIVATE, "engine_usage": PRIVATE}]}),
            ("GET", f"/v1/requests/{PRIVATE}", None),
        ):
            await asker.ask(method, path, body)
    await http.post("/v1/keys", content=PRIVATE, headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
    event = gateway.event(session=PRIVATE, task=PRIVATE, end_user=PRIVATE, key=PRIVATE)
    await append(valkey, event)
    await valkey.xadd(channels.USAGE, {channels.USAGE_FIELD: encode_event(event)[:-20]})
    return [STRANGER, secret, ADMIN_TOKEN, INGEST_TOKEN, PRIVATE]


async def _answers(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx2.TransportError:
        return False


async def _trimmed(valkey: Redis) -> bool:
    """All but the last entry has been committed."""
    return int(await valkey.xlen(channels.USAGE)) == 1


async def _says(path: Path, event: str) -> bool:
    return event in await asyncio.to_thread(path.read_text)
