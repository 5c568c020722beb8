"""The gateway's own parts, a few at a time, to see what each costs: `python -m benchmarks.gateway.relay STEP PORT`.

    relay    the server and the upstream client, and nothing between them
    reading  and the request is read, judged and written anew, the answer too
    keys     and the key is looked up and checked
    calls    and Valkey is called twice, as metering does, with as much, for nothing
    waits    and these calls take Valkey about as long as metering's, still for nothing
    memory   everything, but the journal stays in memory

All but the last are put together here; that is the gateway itself with another journal. Settings are the gateway's.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import uvloop

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import decode_table
from headrace_contracts.usage import Dialect
from headrace_gateway import app
from headrace_gateway.dialects.openai_request import decode_request
from headrace_gateway.http.authorization import bearer_token
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.server import Listener
from headrace_gateway.keys.authorisation import check_caller
from headrace_gateway.keys.directory import Directory
from headrace_gateway.metering.journal import Journal
from headrace_gateway.routing.upstream.client import Upstream, UpstreamBounds, UpstreamTimeouts
from headrace_gateway.settings import GatewaySettings
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.functions import Library

STEPS = ("relay", "reading", "keys", "calls", "waits", "memory")

PATH = "/v1/chat/completions"
BODY_BYTES_MAX = 2**20
TIMEOUT_SECONDS = 30.0

ADMISSION, SETTLEMENT = b"x" * 1200, b"x" * 700
"""As large as those of a key with a limit of every kind."""

TURNS = {"calls": 0, "waits": 14_000}
"""Of a loop in Valkey, each some 6 ns: with them two calls take what an admission and a settlement do."""


class Calls:
    """Calls to Valkey that nothing comes of, however long it is busy with them."""

    def __init__(self, valkey: Valkey, *, turns: int) -> None:
        self._valkey = valkey
        self._loop = asyncio.get_running_loop()
        body = f"local n = 0 for turn = 1, {turns} do n = n + turn end return 1"
        self._nothing = Library("nothing", {"call": body})["call"]

    async def make(self, argument: bytes) -> None:
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._nothing.send(self._valkey, answer.set_result, argument)
        assert await answer == 1


class Relay:
    def __init__(
        self, settings: GatewaySettings, directory: Directory | None, calls: Calls | None, *, reads: bool
    ) -> None:
        table = decode_table(settings.deployments.read_bytes())
        self._deployment = table.deployments[0]
        self._directory = directory
        self._calls = calls
        self._addresses = ClientAddresses()
        self._reads = reads
        self._upstream = Upstream(
            UpstreamTimeouts(connect=5, first_byte=TIMEOUT_SECONDS, idle=TIMEOUT_SECONDS),
            UpstreamBounds(connections_max=1024, keep_idle_seconds=TIMEOUT_SECONDS),
        )

    async def __call__(self, exchange: Exchange) -> None:
        try:
            if self._directory is not None:
                await self._check_key(exchange, self._directory)
            body = await exchange.body(bytes_max=BODY_BYTES_MAX, timeout_seconds=TIMEOUT_SECONDS)
            request = decode_request(body, Dialect.OPENAI_CHAT) if self._reads else None
            if request is not None:
                body = request.upstream_body(self._deployment, output_tokens_max=None, org="org_1")
            if self._calls is not None:
                await self._calls.make(ADMISSION)
            reply = await self._upstream.post(self._deployment.url, PATH, b"", body)
            try:
                answer = await reply.read_all(bytes_max=BODY_BYTES_MAX)
            finally:
                reply.close()
            if request is not None:
                answer, _ = request.read_reply(answer, self._deployment)
            if self._calls is not None:
                await self._calls.make(SETTLEMENT)
            exchange.answer(200, [("content-type", "application/json")], answer)
        finally:
            exchange.end()

    async def _check_key(self, exchange: Exchange, directory: Directory) -> None:
        credentials = self._addresses.credentials(exchange, bearer_token(exchange))
        key, project = directory.known_owner(credentials.key) or await directory.owner(credentials.key)
        now_us = time.time_ns() // 1000
        check_caller(key.record, project.record, credentials, KeyScope.INFERENCE, now_us=now_us)


class InMemory(Journal):
    """Counts what is appended and forgets it."""

    def append(self, build: Callable[[int], bytes]) -> int:
        self.give_back()
        self.last_sequence += 1
        build(self.last_sequence)
        return self.last_sequence

    def when_durable(self, sequence: int, then: Callable[[], None]) -> None:  # noqa: ARG002 - a journal's signature
        then()

    def mark(self) -> None:
        """Nothing is ever sent again: there is nothing to read it from."""


async def run(step: str, port: int) -> None:
    settings = GatewaySettings.from_environment()
    if step == "memory":
        with patch("headrace_gateway.metering.meter.Journal", InMemory):
            await app.run(settings)
        return
    directory = calls = None
    if step not in ("relay", "reading"):
        valkey = Valkey(settings.valkey_url.get_secret_value(), timeout_seconds=TIMEOUT_SECONDS)
        await valkey.start()
        directory = Directory(valkey)
        calls = Calls(valkey, turns=TURNS[step]) if step in TURNS else None
    relay = Relay(settings, directory, calls, reads=step != "relay")
    listener = Listener(relay, connections_max=1024, head_timeout_seconds=TIMEOUT_SECONDS)
    await listener.listen(str(settings.host), port, shared=False)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2])))
