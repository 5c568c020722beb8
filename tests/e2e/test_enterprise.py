"""The enterprise's guide, done: billing, the operator and a gateway are processes of their own; the cluster, KubeRay and
the engine are played over their protocols.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import yaml

from headrace_contracts.engine import EngineEnding, EngineRecord, EngineRecordBatch
from headrace_platform.control.observation import Key
from tests.architecture.tree import ROOT
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, Seller
from tests.chart.guide import ENTERPRISE, PARTNER, block
from tests.chart.helm import NAMESPACE, Values, running_helm
from tests.chart.releases import merged
from tests.platform.control.live.ground import Ground, RealClock, ground, path_of
from tests.platform.control.live.process import kuberay_at_work, running, until
from tests.support.kubernetes.store import Change
from tests.support.postgres import PostgresServer
from tests.support.upstream import Attempt, Behaviour, FakeEngine, running_engine

ROUTES = f"/api/v1/namespaces/{NAMESPACE}/configmaps/headrace-deployments"
ADDRESS = "http://glm-c1-serve-svc.acme.svc.cluster.local:8000"
KEY = Key("acme", "glm")
TOKENS = 6250
"""At 1.60 dollars a million they are a cent."""
START_SECONDS = 60.0
UnusedPort = Callable[[], int]


@dataclass
class Shell:
    """Whoever follows the guide: one shell, whose variables stay."""

    env: dict[str, str]

    async def run(self, *marks: str, keeps: tuple[str, ...] = ()) -> str:
        script = "\n".join(
            [block(ENTERPRISE, "shell"), *(block(ENTERPRISE, mark) for mark in marks)]
            + [f'printf "%s=%s\\n" {name} "${name}" >&3' for name in keeps]
        )
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euo",
            "pipefail",
            "-c",
            f"exec 3>&{write}\n{script}",
            env={"PATH": os.environ["PATH"], "NO_PROXY": "*", **self.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(write,),
        )
        os.close(write)
        said, complained = await process.communicate()
        with os.fdopen(read) as kept:
            self.env |= dict(line.rstrip("\n").split("=", 1) for line in kept)
        if process.returncode != 0:
            raise Refused(said.decode() + complained.decode())
        return said.decode()


class Refused(AssertionError):
    """A command of the guide that did not do what it says."""


@asynccontextmanager
async def service(*arguments: str, **settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
    prefix = arguments[0].upper() + "_"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        env={"PATH": os.environ["PATH"], **{prefix + name: str(value) for name, value in settings.items()}},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@dataclass
class Kubelet:
    """Puts the gateway's table where the gateway reads it, and leads the cluster's names to the engine."""

    cluster: Ground
    engine: FakeEngine
    folder: Path

    async def mount(self) -> None:
        answer = await self.cluster.kube.ask("GET", ROUTES)
        data: dict[str, str] = answer.document["data"]
        assert any(ADDRESS in text for text in data.values())
        for name, text in data.items():
            self.folder.joinpath(name).write_text(text.replace(ADDRESS, self.engine.url))


@dataclass
class Spans:
    """How long pods held their accelerators, as the cluster itself saw it."""

    gpu_ms: int = 0
    pods: list[str] = field(default_factory=list)

    def see(self, change: Change) -> None:
        if change.type != "DELETED" or change.kind.kind != "Pod":
            return
        (container,) = change.object["spec"]["containers"]
        accelerators = int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
        if accelerators:
            status = change.object["status"]
            ended = status["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
            held = datetime.fromisoformat(ended) - datetime.fromisoformat(status["startTime"])
            self.gpu_ms += accelerators * (held // timedelta(milliseconds=1))
            self.pods.append(change.object["metadata"]["name"])


def told_by_the_chart(organization: str, folder: Path) -> Path:
    """The operator's settings, as the guides' values make them."""
    own = block(ENTERPRISE, "values").replace("org_acme", organization)
    values: Values = merged(yaml.safe_load(block(PARTNER, "values")), yaml.safe_load(own))
    with running_helm() as helm:
        config = helm.render(values).named("ConfigMap", "headrace-operator")
    file = folder / "environment.json"
    file.write_text(config["data"]["environment.json"])
    return file


def wanted(organization: str) -> dict[str, Any]:
    """The guide's deployment; but nobody waits ten minutes here."""
    document: dict[str, Any] = yaml.safe_load(
        block(ENTERPRISE, "deployment").replace("org_acme", organization)
    )
    document["spec"]["deletionPolicy"]["drainSeconds"] = 0
    return document


@dataclass
class Market:
    seller: Seller
    url: str
    valkey_url: str

    async def wait_for(self, url: str) -> None:
        """Until that service says that it is ready."""

        async def is_ready() -> bool:
            try:
                return (await self.seller.http.get(f"{url}/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(is_ready, seconds=START_SECONDS)


@pytest.fixture
async def market(
    postgres_server: PostgresServer, valkey_url: str, unused_port: UnusedPort
) -> AsyncIterator[Market]:
    """Billing with a published list, and nobody in it yet."""
    port = unused_port()
    settings = {
        "DATABASE_URL": postgres_server.create_database(),
        "VALKEY_URL": valkey_url,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "INGEST_TOKEN": INGEST_TOKEN,
        "SIGNING_KEY": "ab" * 32,
        "DRAIN_WAIT_SECONDS": 0.2,
        "PORT": port,
    }
    async with AsyncExitStack() as stack:
        migration = await stack.enter_async_context(service("headrace_billing", "migrate", **settings))
        assert await migration.wait() == 0
        for part in ("api", "worker"):
            await stack.enter_async_context(service("headrace_billing", part, **settings))
        url = f"http://127.0.0.1:{port}"
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, trust_env=False))
        market = Market(Seller(http), url, valkey_url)
        await market.wait_for(url)
        listed = json.loads((ROOT / "billing" / "price-books" / "glm-usd.json").read_text())
        await market.seller.post("/v1/price-books", listed)
        yield market


@pytest.fixture(name="cluster")
async def cluster_with_kuberay() -> AsyncIterator[Ground]:
    async with ground(RealClock()) as fresh, kuberay_at_work(fresh):
        yield fresh


@asynccontextmanager
async def gateway(market: Market, port: int, tables: Path, folder: Path) -> AsyncIterator[str]:
    async with service(
        "headrace_gateway",
        PORT=port,
        NAME="gateway-0",
        VALKEY_URL=market.valkey_url,
        BILLING_URL=market.url,
        INGEST_TOKEN=INGEST_TOKEN,
        STATE_DIR=folder,
        DEPLOYMENTS=tables,
        CONNECTIONS_MAX=16,
        JOURNAL_SEGMENT_BYTES=256 * 2**10,
        JOURNAL_BYTES_MAX=2**20,
    ):
        url = f"http://127.0.0.1:{port}"
        await market.wait_for(url)
        yield url


async def models_known(http: httpx2.AsyncClient, gateway_url: str, api_key: str) -> list[str]:
    answer = await http.get(f"{gateway_url}/v1/models", headers={"Authorization": f"Bearer {api_key}"})
    return [model["id"] for model in answer.json()["data"]]


async def tell_what_was_yielded(market: Market, attempt: Attempt, usage: dict[str, Any]) -> None:
    """The replica's part, which a scripted engine does not have."""
    now_us = int(datetime.now(UTC).timestamp()) * 1_000_000
    record = EngineRecord(
        replica="replica-1",
        attempt=attempt.id,
        deployment="acme/glm-c1",
        model="glm-4.7",
        ending=EngineEnding.FINISHED,
        prompt=usage["prompt_tokens"],
        cached=usage["prompt_tokens_details"]["cached_tokens"],
        output=usage["completion_tokens"],
        started_at_us=now_us,
        finished_at_us=now_us + 1,
    )
    told = msgspec.to_builtins(EngineRecordBatch(records=[record]))
    await Seller(market.seller.http, INGEST_TOKEN).post("/internal/v1/engine-records", told)


async def test_an_organisation_goes_from_its_contract_to_its_endpoint_and_its_bill(
    market: Market, cluster: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    begun, spans, tables = datetime.now(UTC), Spans(), tmp_path / "deployments"
    cluster.server.store.listeners.append(spans.see)
    tables.mkdir()
    async with (
        running_engine(Behaviour(tokens=TOKENS)) as engine,
        gateway(market, unused_port(), tables, tmp_path / "journal") as gateway_url,
    ):
        shell = Shell(
            {
                "BILLING": market.url,
                "GATEWAY": gateway_url,
                "ADMIN_TOKEN": ADMIN_TOKEN,
                "CIDR": "127.0.0.0/8",
                "START": begun.strftime("%Y-%m-%dT%H:00:00Z"),
                "END": (begun + timedelta(hours=2)).strftime("%Y-%m-%dT%H:00:00Z"),
            }
        )
        await shell.run("contract", keeps=("ORGANIZATION", "PROJECT"))
        organization = shell.env["ORGANIZATION"]
        label = {"metadata": {"labels": {"headrace.dev/tenant": organization}}}
        await cluster.kube.merge("/api/v1/namespaces/acme", label)
        await shell.run("key", keeps=("API_KEY",))
        with pytest.raises(Refused, match="model_not_found"):
            await shell.run("completion")

        settings = await asyncio.to_thread(told_by_the_chart, organization, tmp_path)
        async with running(
            cluster,
            tmp_path,
            unused_port(),
            ENVIRONMENT=str(settings),
            NAMESPACE=NAMESPACE,
            NAMESPACES=f"{NAMESPACE},acme",
            ENDPOINT_URL=engine.url,
            BILLING_URL=market.url,
            INGEST_TOKEN=INGEST_TOKEN,
            LEASES="true",
        ) as operator:
            await cluster.kube.apply(path_of(KEY), wanted(organization))
            await until(lambda: cluster.is_ready(KEY), seconds=START_SECONDS)
            ready_at = datetime.now(UTC)
            await Kubelet(cluster, engine, tables).mount()

            async def is_known() -> bool:
                return await models_known(market.seller.http, gateway_url, shell.env["API_KEY"]) == [
                    "glm-4.7"
                ]

            await until(is_known)
            stranger = await market.seller.customer()
            assert await models_known(market.seller.http, gateway_url, stranger.secret) == []
            asked_before = len(engine.attempts)
            assert asked_before, "the operator has asked before anybody else could"
            usage = json.loads(await shell.run("completion"))["usage"]
            (attempt,) = engine.attempts[asked_before:]
            await tell_what_was_yielded(market, attempt, usage)

            async def has_held_for_a_second() -> bool:
                return datetime.now(UTC) - ready_at > timedelta(seconds=1)

            await until(has_held_for_a_second)
            await cluster.kube.delete(path_of(KEY))

            async def has_gone_and_is_told() -> bool:
                costs, held = await told_by(shell)
                is_gone = (await cluster.kube.ask("GET", path_of(KEY))).status == 404
                return is_gone and bool(costs) and sum(each["gpu_ms"] for each in held) == spans.gpu_ms > 0

            await until(has_gone_and_is_told)
            assert await operator.end() == 0

        (cost,), held = await told_by(shell)
        assert len(spans.pods) == 2
        assert {(each["organization"], each["deployment"], each["profile"]) for each in held} == {
            (organization, "acme/glm", "h200")
        }
        assert sum(each["gpu_ms_estimated"] for each in held) == 0
        # At the contract's prices: 4 tokens of input, 3 of the cache's, and a cent's worth of output.
        assert cost["amount"] == "0.01000184"
        invoice = json.loads(await shell.run("invoice"))
        assert (invoice["currency"], invoice["total"]) == ("USD", "0.01")


async def told_by(shell: Shell) -> tuple[list[Any], list[Any]]:
    """Costs and accelerators' time."""
    costs, held = [json.loads(line)["items"] for line in (await shell.run("cost")).splitlines()]
    return costs, held
