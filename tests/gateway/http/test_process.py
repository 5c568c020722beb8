"""The gateway as the process that is deployed: signals, sudden death, several workers, wrong settings."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from headrace_contracts.deployments import DeploymentTable, encode_table
from headrace_contracts.usage import Ending, Grade
from tests.gateway.account import Account
from tests.gateway.http.stack import chat, listens, parsed, refuses, served_at
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour, FakeEngine, running_engine

STREAM = chat(stream=True)


@dataclass
class Running:
    process: asyncio.subprocess.Process
    engine: FakeEngine
    http: httpx.AsyncClient

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 60)


@dataclass
class Launcher:
    account: Account
    engine: FakeEngine
    environment: dict[str, str]

    @contextlib.asynccontextmanager
    async def gateway(self, **settings: str) -> AsyncIterator[Running]:
        environment = self.environment | {f"HEADRACE_GATEWAY_{k.upper()}": v for k, v in settings.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace_gateway", env={**os.environ, **environment}
        )
        port = int(environment["HEADRACE_GATEWAY_PORT"])
        headers = {"authorization": f"Bearer {self.account.secret}"}
        try:
            await listens(port)
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as http:
                yield Running(process, self.engine, http)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def launcher(
    account: Account, valkey_url: str, tmp_path: Path, unused_port: Callable[[], int]
) -> AsyncIterator[Launcher]:
    async with running_engine() as engine:
        table = tmp_path / "deployments.json"
        table.write_bytes(encode_table(DeploymentTable(deployments=[served_at(engine.url)])))
        settings = {
            "PORT": str(unused_port()),
            "VALKEY_URL": valkey_url,
            "BILLING_URL": "http://127.0.0.1:9",
            "INGEST_TOKEN": "token-of-the-tests",
            "STATE_DIR": str(tmp_path),
            "DEPLOYMENTS": str(table),
            "NAME": "gateway",
            "DRAIN_SECONDS": "0",
        }
        yield Launcher(
            account, engine, {f"HEADRACE_GATEWAY_{name}": value for name, value in settings.items()}
        )


async def rest_of(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


async def test_sigterm_lets_a_stream_finish_and_accepts_nothing_new(launcher: Launcher) -> None:
    refused = asyncio.Event()
    launcher.engine.behave(Behaviour(tokens=60, before_each_seconds=0.01, ends=refused))
    async with launcher.gateway() as gateway:
        async with gateway.http.stream("POST", "/v1/chat/completions", json=STREAM) as reply:
            pieces = reply.aiter_text()
            text = await anext(pieces)
            gateway.terminate()
            await refuses(int(launcher.environment["HEADRACE_GATEWAY_PORT"]))
            refused.set()
            text += await rest_of(pieces)
        assert await gateway.ended() == 0

    assert parsed(text)[-1] == "[DONE]"
    [event] = launcher.account.events()
    assert (event.ending, event.tokens.output) == (Ending.COMPLETED, 60)
    assert launcher.account.money()[1] == 0


async def test_after_the_grace_a_stream_ends_with_an_error_and_an_exact_count(launcher: Launcher) -> None:
    launcher.engine.behave(Behaviour(tokens=4000, before_each_seconds=0.01))
    async with launcher.gateway(grace_seconds="0.3") as gateway:
        async with gateway.http.stream("POST", "/v1/chat/completions", json=STREAM) as reply:
            pieces = reply.aiter_text()
            text = await anext(pieces)
            gateway.terminate()
            text += await rest_of(pieces)
        assert await gateway.ended() == 0

    *chunks, last = parsed(text)
    assert isinstance(last, dict)
    assert last["error"]["code"] == "shutting_down"
    [event] = launcher.account.events()
    assert event.ending is Ending.GATEWAY_LOST
    assert event.tokens.output == len(chunks) - 1  # the first one is the role
    assert launcher.account.money()[1] == 0


async def test_idle_connections_do_not_hold_up_the_end(launcher: Launcher) -> None:
    async with launcher.gateway() as gateway:
        await gateway.http.get("/healthz")
        gateway.terminate()
        assert await gateway.ended() == 0


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(launcher: Launcher) -> None:
    launcher.engine.default = Behaviour(tokens=3000, text="x" * 2000)
    async with launcher.gateway(grace_seconds="0.3") as gateway:
        port = int(launcher.environment["HEADRACE_GATEWAY_PORT"])
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            request = gateway.http.build_request("POST", "/v1/chat/completions", json=STREAM)
            lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            deaf.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + request.content)
            await eventually(lambda: launcher.engine.attempts and launcher.engine.last.yielded > 100)
            gateway.terminate()
            assert await gateway.ended() == 0
    [event] = launcher.account.events()
    assert event.grade is Grade.FINAL


async def test_a_gateway_that_is_killed_mid_stream_settles_exactly_when_it_is_started_again(
    launcher: Launcher,
) -> None:
    launcher.engine.behave(Behaviour(tokens=4000, before_each_seconds=0.01))
    async with launcher.gateway() as gateway:
        async with gateway.http.stream("POST", "/v1/chat/completions", json=STREAM) as reply:
            pieces = reply.aiter_text()
            text = await anext(pieces)
            while text.count("\n\n") < 20:
                text += await anext(pieces)
            gateway.process.kill()
            with contextlib.suppress(httpx.HTTPError):
                async for piece in pieces:
                    text += piece
        await gateway.ended()

    async with launcher.gateway():
        await eventually(launcher.account.events)
        await eventually(lambda: launcher.account.money()[1] == 0)
    final = [event for event in launcher.account.events() if event.grade is Grade.FINAL]
    assert [event.ending for event in final] == [Ending.GATEWAY_LOST]
    received = text.count("data: ") - 1
    # The kernel may have had one more chunk for the client than it took from us, or one less.
    assert abs(final[0].tokens.output - received) <= 1


async def test_a_gateway_that_is_killed_gives_its_idempotency_keys_back(launcher: Launcher) -> None:
    headers = {"idempotency-key": "1"}
    launcher.engine.behave(Behaviour(tokens=4000, before_each_seconds=0.01))
    async with launcher.gateway() as gateway:
        asked = gateway.http.stream("POST", "/v1/chat/completions", json=STREAM, headers=headers)
        async with asked as reply:
            pieces = reply.aiter_text()
            await anext(pieces)
            repeat = await gateway.http.post("/v1/chat/completions", json=STREAM, headers=headers)
            assert repeat.json()["error"]["code"] == "idempotency_in_progress"
            gateway.process.kill()
        await gateway.ended()

    async with launcher.gateway() as gateway:
        async with asyncio.timeout(30):
            while True:
                repeat = await gateway.http.post("/v1/chat/completions", json=STREAM, headers=headers)
                if repeat.status_code != 409:
                    break
                await asyncio.sleep(0.05)
        assert parsed(repeat.text)[-1] == "[DONE]"
    assert len(launcher.engine.attempts) == 2


async def test_several_workers_share_the_port_and_a_dead_one_is_replaced(launcher: Launcher) -> None:
    async with launcher.gateway(workers="2") as gateway:
        parent = psutil.Process(gateway.process.pid)
        await eventually(lambda: len(parent.children()) == 2)
        for _ in range(8):
            async with httpx.AsyncClient(
                base_url=gateway.http.base_url, headers=gateway.http.headers
            ) as http:
                assert (await http.post("/v1/chat/completions", json=chat())).status_code == 200
        producers = {event.producer for event in launcher.account.events()}
        assert producers <= {"gateway-0", "gateway-1"}
        victim = parent.children()[0]
        victim.kill()
        await eventually(
            lambda: victim.pid not in [each.pid for each in parent.children()] and len(parent.children()) == 2
        )
        await asyncio.sleep(0.5)
        gateway.terminate()
        assert await gateway.ended() == 0


async def test_workers_do_not_outlive_their_parent(launcher: Launcher) -> None:
    async with launcher.gateway(workers="2") as gateway:
        parent = psutil.Process(gateway.process.pid)
        await eventually(lambda: len(parent.children()) == 2)
        workers = parent.children()
        await asyncio.sleep(1.0)
        gateway.process.kill()
        await gateway.ended()
        await eventually(lambda: not any(map(lives, workers)))


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False  # it went between the two looks


async def failed_start(launcher: Launcher, **changes: str | None) -> tuple[int, str]:
    environment: dict[str, str | None] = {**os.environ, **launcher.environment}
    environment |= {f"HEADRACE_GATEWAY_{name.upper()}": value for name, value in changes.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headrace_gateway",
        env={name: value for name, value in environment.items() if value is not None},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_a_missing_setting_is_named(launcher: Launcher) -> None:
    status, errors = await failed_start(launcher, ingest_token=None)
    assert status == 2
    assert "ingest_token" in errors
    assert "Traceback" not in errors


async def test_a_wrong_setting_is_named_but_not_shown(launcher: Launcher) -> None:
    status, errors = await failed_start(launcher, port="secret-value")
    assert status == 2
    assert '"port"' in errors
    assert "secret-value" not in errors


async def test_a_port_that_is_taken_is_not_shared_with_whoever_has_it(launcher: Launcher) -> None:
    async with launcher.gateway():
        status, errors = await failed_start(launcher)
    assert status == 2
    assert "port_taken" in errors


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_without_a_table_of_deployments_it_does_not_start(launcher: Launcher, workers: str) -> None:
    status, errors = await failed_start(
        launcher, deployments="/nonexistent/deployments.json", workers=workers
    )
    assert status == 2
    assert "deployments" in errors
    assert "Traceback" not in errors


GUARDRAIL = '[{{"plugin": "headrace_gateway.guardrails.patterns:Patterns", "options": {{"file": "{file}"}}}}]'


async def test_a_guardrail_that_the_environment_names_refuses_a_request_and_ends_a_stream(
    launcher: Launcher, tmp_path: Path
) -> None:
    file = tmp_path / "patterns.toml"
    file.write_text('[[pattern]]\nname = "secret-word"\nexpression = "xyzzy|word3"')
    launcher.engine.default = Behaviour(tokens=5)
    async with launcher.gateway(guardrails=GUARDRAIL.format(file=file)) as gateway:
        asked = chat(messages=[{"role": "user", "content": "say xyzzy"}])
        refused = await gateway.http.post("/v1/chat/completions", json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_refused")
        assert "secret-word" in refused.json()["error"]["message"]
        assert launcher.engine.attempts == []

        stream = await gateway.http.post("/v1/chat/completions", json=STREAM)
        [*_, last, done] = parsed(stream.text)
        assert done == "[DONE]"
        assert isinstance(last, dict)
        assert last["choices"][0]["finish_reason"] == "content_filter"
        assert "word2" in stream.text
        assert "word3" not in stream.text


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('[{"plugin": "secret-value"', '"guardrails"'),
        ('[{"plug": "secret-value"}]', '"guardrails.0.plugin"'),
        (GUARDRAIL.format(file="/nonexistent/patterns.toml"), "guardrail_invalid"),
        ('[{"plugin": "no.such.module:Patterns"}]', "guardrail_invalid"),
    ],
)
async def test_with_a_guardrail_that_can_not_be_opened_it_does_not_start(
    launcher: Launcher, written: str, named: str, workers: str
) -> None:
    status, errors = await failed_start(launcher, guardrails=written, workers=workers)
    assert status == 2
    assert named in errors
    assert "secret-value" not in errors
    assert "Traceback" not in errors
