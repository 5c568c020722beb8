"""What billing's benchmarks run on: a Postgres that is as durable as in production, Valkey, and customers by the API.

Everything is on this machine, whose cores the parts and the measured process share.
"""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psutil
from tests.billing.seller import MODEL, Customer, Seller
from tests.support.processes import end

from headrace_billing.app import compose
from headrace_billing.database import Database
from headrace_billing.parts import Parts
from headrace_billing.schema import migrate
from headrace_billing.valkey import connect
from headrace_platform.local.ports import unused_port
from headrace_platform.local.postgres import STOP_SIGNAL as POSTGRES_STOP
from headrace_platform.local.postgres import Postgres
from headrace_platform.local.valkey import STOP_SIGNAL as VALKEY_STOP
from headrace_platform.local.valkey import Valkey

ADMIN_TOKEN = secrets.token_hex(16)
INGEST_TOKEN = secrets.token_hex(16)
SIGNING_KEY = secrets.token_bytes(32)

MODELS = (MODEL, "glm-small", "glm-large")
PRICES = {"input_uncached": "0.6", "cache_read": "0.11", "cache_write": "0.6", "output": "2.2"}


@dataclass(frozen=True, slots=True)
class Servers:
    database_url: str
    valkey_url: str
    postgres: psutil.Process
    valkey: psutil.Process
    data: Path

    def environment(self) -> dict[str, str]:
        """Of a process of billing's."""
        return {
            "PATH": os.environ["PATH"],
            "HEADRACE_BILLING_DATABASE_URL": self.database_url,
            "HEADRACE_BILLING_VALKEY_URL": self.valkey_url,
            "HEADRACE_BILLING_ADMIN_TOKEN": ADMIN_TOKEN,
            "HEADRACE_BILLING_INGEST_TOKEN": INGEST_TOKEN,
            "HEADRACE_BILLING_SIGNING_KEY": SIGNING_KEY.hex(),
            "HEADRACE_BILLING_DRAIN_WAIT_SECONDS": "0",
        }


@contextmanager
def servers() -> Iterator[Servers]:
    """Both servers, an empty migrated database, and nothing left of them afterwards."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = Postgres(folder=folder / "postgres", port=unused_port(), password=secrets.token_hex(16))
        valkey = Valkey(folder=folder / "valkey", port=unused_port(), password=secrets.token_hex(16))
        log = stack.enter_context((folder / "log").open("wb"))
        postgres_process = postgres.start(log, dies_with_parent=True)
        stack.callback(end, postgres_process, POSTGRES_STOP)
        valkey_process = valkey.start(log, dies_with_parent=True)
        stack.callback(end, valkey_process, VALKEY_STOP)
        postgres.wait_until_ready(postgres_process)
        valkey.wait_until_ready(valkey_process)
        postgres.create_database()
        migrate(postgres.url())
        yield Servers(
            postgres.url(),
            valkey.url,
            psutil.Process(postgres_process.pid),
            psutil.Process(valkey_process.pid),
            postgres.data,
        )


@asynccontextmanager
async def seller(running: Servers) -> AsyncIterator[Seller]:
    parts = Parts(
        database=Database(running.database_url),
        valkey=connect(running.valkey_url),
        admin_token=ADMIN_TOKEN,
        ingest_token=INGEST_TOKEN,
        signing_key=SIGNING_KEY,
        now=lambda: datetime.now(UTC),
    )
    transport = httpx2.ASGITransport(app=compose(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        yield Seller(http, ADMIN_TOKEN)
    await parts.valkey.aclose()
    await parts.database.close()


@dataclass(frozen=True, slots=True)
class Market:
    price_book: str
    customers: Sequence[Customer]


async def open_market(running: Servers, *, customers: int) -> Market:
    """Prices for every model, and customers who have paid ahead more than they will use."""
    async with seller(running) as admin:
        book = await admin.post(
            "/v1/price-books", {"currency": "USD", "models": dict.fromkeys(MODELS, PRICES)}
        )
        return Market(str(book["id"]), [await admin.customer(credit="1000000.00") for _ in range(customers)])


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of the process and its children, also of those that have ended."""
    times = process.cpu_times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with_child = child.cpu_times()
        spent += with_child.user + with_child.system
    return float(spent)


def log(line: str) -> None:
    sys.stderr.write(f"[bench-billing] {line}\n")
