"""What a request costs the gateway in CPU time, beside a bare relay of the same parts in the same run.

    python benchmarks/gateway.py [--requests 4000] [--connections 32] [--chunks 64]

Prints JSON. CPU-milliseconds are of the gateway's whole process tree, user and system; the bare relay is the same
server and the same upstream client with nothing between them, so the ratio is what keys, admission, counting,
journal and settlement cost together. The engine is a few lines of asyncio that answer at once: what remains is
ours. Valkey is real; its own time is told apart.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis
import uvloop
from tests.gateway.account import MODEL, open_account

from headrace_contracts import channels
from headrace_contracts.deployments import Deployment, DeploymentTable, encode_table
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.server import Listener
from headrace_gateway.routing.upstream.client import Upstream, UpstreamBounds, UpstreamTimeouts
from headrace_platform.local.ports import unused_port
from headrace_platform.local.valkey import Valkey

HOST = "127.0.0.1"
WARM_UP_REQUESTS = 300
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
USAGE = b'"usage":{"prompt_tokens":17,"total_tokens":%d,"completion_tokens":%d}'


# The engine ------------------------------------------------------------------------------------------------


class Engine(asyncio.Protocol):
    """Answers every request with the same bytes as soon as its body is there."""

    plain: bytes
    pieces: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, separator, body = self._seen.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._seen = b""
        if b'"stream":true' not in body:
            self._transport.write(self.plain)
            return
        # A token at a time, each its own write: wake-ups are what a stream costs.
        for piece in self.pieces:
            self._transport.write(piece)


def engine_bytes(chunks: int) -> tuple[bytes, list[bytes]]:
    head = (
        b'{"id":"chatcmpl-1","object":"chat.completion%b","created":1790000000,"model":"engine","choices":['
    )
    message = b'{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],'
    body = head % b"" + message + USAGE % (18, 1) + b"}"
    plain = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    delta = b'{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],'
    pieces = [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        *(
            framed(head % b".chunk" + delta + USAGE % (17 + number, number) + b"}")
            for number in range(1, chunks + 1)
        ),
        framed(head % b".chunk" + b"]," + USAGE % (17 + chunks, chunks) + b"}"),
        framed(b"[DONE]") + b"0\r\n\r\n",
    ]
    return plain % (len(body), body), pieces


def framed(payload: bytes) -> bytes:
    event = b"data: %b\n\n" % payload
    return b"%x\r\n%b\r\n" % (len(event), event)


async def run_engine(port: int, chunks: int) -> None:
    Engine.plain, Engine.pieces = engine_bytes(chunks)
    server = await asyncio.get_running_loop().create_server(Engine, HOST, port, backlog=1024)
    await server.serve_forever()


# The bare relay --------------------------------------------------------------------------------------------


class BareRelay:
    """The server and the upstream client, and nothing between them."""

    def __init__(self, engine_url: str) -> None:
        self._url = engine_url
        self._upstream = Upstream(
            UpstreamTimeouts(connect=5, first_byte=30, idle=30),
            UpstreamBounds(connections_max=1024, keep_idle_seconds=30),
        )

    async def __call__(self, exchange: Exchange) -> None:
        try:
            body = await exchange.body(bytes_max=2**20, timeout_seconds=30)
            reply = await self._upstream.post(self._url, exchange.path, b"", body)
            try:
                headers = [("content-type", reply.content_type)]
                if not reply.content_type.startswith("text/event-stream"):
                    exchange.answer(200, headers, await reply.read_all(bytes_max=2**20))
                    return
                exchange.begin(200, headers)
                while piece := await reply.read():
                    await exchange.send(piece)
            finally:
                reply.close()
        finally:
            exchange.end()


async def run_bare_relay(port: int, engine_url: str) -> None:
    listener = Listener(BareRelay(engine_url), connections_max=1024, head_timeout_seconds=30)
    await listener.listen(HOST, port, shared=False)
    await asyncio.Event().wait()


# The load --------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """Sends the same request again and again over one connection."""

    def __init__(self, request: bytes, end: bytes, remaining: list[int], done: asyncio.Future[None]) -> None:
        self._request = request
        self._end = end
        self._remaining = remaining
        self._done = done
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if not self._seen.startswith(b"HTTP/1.1 200"):
            raise AssertionError(self._seen[:500])
        if self._seen.endswith(self._end):
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(AssertionError(f"the connection was closed: {exc}"))

    def _next(self) -> None:
        self._seen = b""
        if self._remaining[0] == 0:
            if not self._done.done():
                self._done.set_result(None)
            return
        self._remaining[0] -= 1
        self._transport.write(self._request)


async def load(port: int, request: bytes, *, streamed: bool, requests: int, connections: int) -> float:
    """Seconds that the requests took."""
    loop = asyncio.get_running_loop()
    end = b"data: [DONE]\n\n\r\n0\r\n\r\n" if streamed else b"}"
    remaining = [requests]
    waiting, transports = [], []
    started = time.perf_counter()
    for _ in range(connections):
        done = loop.create_future()
        transport, _ = await loop.create_connection(
            lambda done=done: Client(request, end, remaining, done),  # type: ignore[misc]
            HOST,
            port,
        )
        waiting.append(done)
        transports.append(transport)
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - started
    for transport in transports:
        transport.close()
    return seconds


def request_bytes(secret: str, *, streamed: bool) -> bytes:
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Why is the sky blue? " * 10}],
        "max_tokens": 256,
    }
    if streamed:
        body["stream"] = True
    encoded = json.dumps(body, separators=(",", ":")).encode()
    return HEAD + b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (
        secret.encode(),
        len(encoded),
        encoded,
    )


# The run ---------------------------------------------------------------------------------------------------


def cpu_seconds(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[psutil.Process]:
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            asyncio.run(_connect(port))
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}")


async def _connect(port: int) -> None:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()


def measure(
    target: psutil.Process, port: int, valkey: psutil.Process, options: argparse.Namespace, secret: str
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, streamed in (("plain", False), ("stream", True)):
        request = request_bytes(secret, streamed=streamed)
        count = options.requests // (8 if streamed else 1)

        def run(number: int, request: bytes = request, streamed: bool = streamed) -> float:
            return uvloop.run(
                load(port, request, streamed=streamed, requests=number, connections=options.connections)
            )

        run(min(WARM_UP_REQUESTS, count))
        rounds = []
        for _ in range(options.rounds):
            before, valkey_before = cpu_seconds(target), cpu_seconds(valkey)
            seconds = run(count)
            rounds.append(
                {
                    "cpu_ms_per_request": (cpu_seconds(target) - before) / count * 1000,
                    "valkey_cpu_ms_per_request": (cpu_seconds(valkey) - valkey_before) / count * 1000,
                    "requests_per_second": count / seconds,
                }
            )
        results[name] = {key: round(statistics.median(r[key] for r in rounds), 4) for key in rounds[0]}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    engine_port, relay_port, gateway_port = unused_port(), unused_port(), unused_port()
    engine_url = f"http://{HOST}:{engine_port}"
    me = [sys.executable, __file__]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        server = Valkey(folder=folder / "valkey", port=unused_port(), password=secrets.token_hex(16))
        valkey_process = server.start(stack.enter_context((folder / "valkey.log").open("wb")))
        stack.callback(valkey_process.wait, 30)
        stack.callback(valkey_process.terminate)
        server.wait_until_ready(valkey_process)
        client = stack.enter_context(redis.Redis.from_url(server.url))
        account = open_account(client, micros=2**50)
        stack.enter_context(running([*me, "engine", str(engine_port), str(options.chunks)]))
        relay = stack.enter_context(running([*me, "relay", str(relay_port), engine_url]))
        deployment = Deployment(
            id="bench",
            model=MODEL,
            url=engine_url,
            engine_model="engine",
            revision="1",
            context_tokens=8192,
            prompt_overhead_tokens=16,
        )
        (folder / "deployments.json").write_bytes(encode_table(DeploymentTable(deployments=[deployment])))
        prefix = "HEADRACE_GATEWAY_"
        gateway = stack.enter_context(
            running(
                [sys.executable, "-m", "headrace_gateway"],
                **{
                    prefix + "PORT": str(gateway_port),
                    prefix + "VALKEY_URL": server.url,
                    prefix + "BILLING_URL": f"http://{HOST}:9",
                    prefix + "INGEST_TOKEN": "none",
                    prefix + "STATE_DIR": str(folder),
                    prefix + "DEPLOYMENTS": str(folder / "deployments.json"),
                    prefix + "NAME": "bench",
                    prefix + "DRAIN_SECONDS": "0",
                },
            )
        )
        for port in (engine_port, relay_port, gateway_port):
            wait_for(port)
        # The gateway admits from its first heartbeat on.
        time.sleep(1.5)
        valkey = psutil.Process(valkey_process.pid)
        results = {
            "bare_relay": measure(relay, relay_port, valkey, options, account.secret),
            "gateway": measure(gateway, gateway_port, valkey, options, account.secret),
        }
        client.delete(channels.USAGE)
    results["ratio"] = {
        name: round(
            results["gateway"][name]["cpu_ms_per_request"]
            / results["bare_relay"][name]["cpu_ms_per_request"],
            2,
        )
        for name in ("plain", "stream")
    }
    results["options"] = vars(options)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["engine", port, chunks]:
            uvloop.run(run_engine(int(port), int(chunks)))
        case ["relay", port, url]:
            uvloop.run(run_bare_relay(int(port), url))
        case _:
            main()
