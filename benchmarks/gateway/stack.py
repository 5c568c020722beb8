"""Everything real that a gateway works with: Postgres, Valkey, billing's API and worker, and two customers.

One customer's requests pass a limit of every kind, spread over organisation, project and key; the other's pass a wallet
alone. The programs run on the core of the load.
"""

import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import redis
from benchmarks.gateway.engine import MODEL
from benchmarks.gateway.programs import Program, launching, started

from headrace_contracts import channels
from headrace_contracts.access import LimitKind
from headrace_contracts.deployments import Deployment, DeploymentTable, encode_table
from headrace_platform.local import postgres, valkey
from headrace_platform.local.ports import HOST, unused_port
from headrace_platform.local.postgres import Postgres
from headrace_platform.local.python_module import HealthRoute
from headrace_platform.local.valkey import Valkey

PRICES = {"input_uncached": "0.10", "cache_read": "0.02", "cache_write": "0.10", "output": "0.40"}
CREDIT = "1000000.00"

FAR_AWAY = 10**10
"""A ceiling that no run comes near: what a check costs does not depend on it."""

POLL_SECONDS = 0.1

WINDOW = {"seconds": 18_000, "shape": "sliding", "unit": "tokens"}
ORGANIZATION_KINDS = (LimitKind.REQUESTS_PER_MINUTE, LimitKind.TOKENS_PER_MINUTE, LimitKind.SPEND_MONTH)
PROJECT_KINDS = (
    LimitKind.INPUT_TOKENS_PER_MINUTE,
    LimitKind.CACHED_TOKENS_PER_MINUTE,
    LimitKind.OUTPUT_TOKENS_PER_MINUTE,
    LimitKind.SPEND_TOTAL,
)
KEY_KINDS = (LimitKind.CONCURRENCY, LimitKind.SPEND_DAY, LimitKind.WINDOW)


@dataclass(frozen=True, slots=True)
class Stack:
    folder: Path
    database_url: str
    valkey_url: str
    billing_url: str
    ingest_token: str
    secret_limited: str
    """Of the key with a limit of every kind."""
    secret_unlimited: str
    """Of the one that a wallet alone bounds."""
    deployments: Path
    valkey: Program
    billing: tuple[Program, ...]
    """Postgres, the API and the worker."""

    def state_dir(self, name: str) -> Path:
        return self.folder / name

    def gateway(self, name: str, port: int, *, workers: int = 1) -> dict[str, str]:
        self.state_dir(name).mkdir(exist_ok=True)
        settings = {
            "PORT": str(port),
            "WORKERS": str(workers),
            "VALKEY_URL": self.valkey_url,
            "BILLING_URL": self.billing_url,
            "INGEST_TOKEN": self.ingest_token,
            "STATE_DIR": str(self.state_dir(name)),
            "DEPLOYMENTS": str(self.deployments),
            "NAME": name,
        }
        return {f"HEADRACE_GATEWAY_{key}": value for key, value in settings.items()}

    def wait_until_posted(self, seconds: float) -> bool:
        """Until billing has taken every usage event into its books; False where it takes longer."""
        until = time.monotonic() + seconds
        with redis.Redis.from_url(self.valkey_url) as client:
            # The last entry stays in the stream.
            while int(cast("int", client.xlen(channels.USAGE))) > 1:
                if time.monotonic() > until:
                    return False
                time.sleep(POLL_SECONDS)
        return True


@contextmanager
def running(folder: Path, engine_port: int) -> Iterator[Stack]:
    with ExitStack() as stack:
        database = Postgres(folder=folder / "postgres", port=unused_port(), password=secrets.token_hex(16))
        store = Valkey(folder=folder / "valkey", port=unused_port(), password=secrets.token_hex(16))
        database_program = stack.enter_context(
            started(
                lambda log: database.start(log, dies_with_parent=True),
                database.is_ready,
                folder / "postgres.log",
                stop_signal=postgres.STOP_SIGNAL,
            )
        )
        valkey_program = stack.enter_context(
            started(
                lambda log: store.start(log, dies_with_parent=True),
                store.is_ready,
                folder / "valkey.log",
                stop_signal=valkey.STOP_SIGNAL,
            )
        )
        database.create_database()
        port, admin_token, ingest_token = unused_port(), secrets.token_hex(16), secrets.token_hex(16)
        settings = {
            "DATABASE_URL": database.url(),
            "VALKEY_URL": store.url,
            "PORT": str(port),
            "ADMIN_TOKEN": admin_token,
            "INGEST_TOKEN": ingest_token,
            "SIGNING_KEY": secrets.token_hex(32),
        }
        environment = {f"HEADRACE_BILLING_{name}": value for name, value in settings.items()}
        with (folder / "migrate.log").open("wb") as log:
            migrating = _billing("migrate", environment, folder)(log)
        if migrating.wait() != 0:
            raise AssertionError((folder / "migrate.log").read_text()[-2000:])
        health = HealthRoute(host=HOST, port=port, path="/healthz")
        api = stack.enter_context(
            started(_billing("api", environment, folder), health.answers, folder / "billing-api.log")
        )
        worker = stack.enter_context(
            started(_billing("worker", environment, folder), lambda: True, folder / "billing-worker.log")
        )
        billing_url = f"http://{HOST}:{port}"
        limited, unlimited = open_customers(billing_url, admin_token)
        yield Stack(
            folder=folder,
            database_url=database.url(),
            valkey_url=store.url,
            billing_url=billing_url,
            ingest_token=ingest_token,
            secret_limited=limited,
            secret_unlimited=unlimited,
            deployments=_deployments(folder, engine_port),
            valkey=valkey_program,
            billing=(database_program, api, worker),
        )


def _billing(part: str, environment: Mapping[str, str], folder: Path) -> Any:
    return launching([sys.executable, "-P", "-m", "headrace_billing", part], environment, folder)


def deployment(engine_port: int) -> Deployment:
    return Deployment(
        id="bench-1",
        model=MODEL,
        url=f"http://{HOST}:{engine_port}",
        engine_model=MODEL,
        revision="1",
        context_tokens=8192,
        prompt_overhead_tokens=16,
    )


def _deployments(folder: Path, engine_port: int) -> Path:
    path = folder / "deployments.json"
    path.write_bytes(encode_table(DeploymentTable(deployments=[deployment(engine_port)])))
    return path


def open_customers(billing_url: str, admin_token: str) -> tuple[str, str]:
    """The secrets of two keys: one under a limit of every kind, one under its wallet alone."""
    headers = {"authorization": f"Bearer {admin_token}"}
    with httpx2.Client(base_url=billing_url, headers=headers, timeout=30, trust_env=False) as billing:
        ask(billing, "/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES}})
        return (
            open_customer(billing, ORGANIZATION_KINDS, PROJECT_KINDS, KEY_KINDS),
            open_customer(billing, (), (), ()),
        )


def open_customer(
    billing: httpx2.Client,
    organization_kinds: tuple[LimitKind, ...],
    project_kinds: tuple[LimitKind, ...],
    key_kinds: tuple[LimitKind, ...],
) -> str:
    organization = ask(billing, "/v1/organizations", {"name": "Bench"})
    project = ask(
        billing,
        "/v1/projects",
        {
            "organization": organization["id"],
            "name": "bench",
            "currency": "USD",
            "disposition": "prepaid",
            "limits": limits(project_kinds),
        },
    )
    grant = {"project": project["id"], "amount": CREDIT, "currency": "USD", "kind": "paid", "reason": "bench"}
    ask(billing, "/v1/credit-grants", grant)
    if organization_kinds:
        answer = billing.patch(
            f"/v1/organizations/{organization['id']}",
            json={"limits": limits(organization_kinds)},
            headers={"if-match": f'"{organization["version"]}"'},
        )
        assert answer.is_success, answer.text
    key = {"project": project["id"], "name": "bench", "limits": limits(key_kinds)}
    return str(ask(billing, "/v1/keys", key)["secret"])


def limits(kinds: tuple[LimitKind, ...]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "ceiling": FAR_AWAY} | ({"window": WINDOW} if kind is LimitKind.WINDOW else {})
        for kind in kinds
    ]


def ask(billing: httpx2.Client, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = billing.post(path, json=body, headers={"idempotency-key": secrets.token_hex(16)})
    assert answer.is_success, f"{path}: {answer.text}"
    document: dict[str, Any] = answer.json()
    return document
