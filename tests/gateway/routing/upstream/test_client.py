"""The upstream client against servers that cut, delay, break and reuse as real ones do; httpx is the judge."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx2 as httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_gateway.routing.upstream.client import (
    LOOK_SECONDS,
    Upstream,
    UpstreamBounds,
    UpstreamTimeouts,
)
from headrace_gateway.routing.upstream.connection import HEAD_BYTES_MAX, READ_AHEAD_BYTES_MAX
from headrace_gateway.routing.upstream.errors import (
    ConnectionsExhausted,
    ReplyBroken,
    ReplyTooLarge,
    ReplyTooSlow,
    StaleConnection,
    Unreachable,
    UpstreamError,
)
from headrace_gateway.routing.upstream.reply import Reply
from tests.gateway.waiting import at_rest, eventually

MUCH = 64 * 2**20
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@dataclass
class Server:
    """Answers each request with the next script."""

    scripts: list[Callable[[asyncio.StreamWriter], Awaitable[None]]]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.scripts and not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            self.requests.append(head + await reader.readexactly(length))
            await self.scripts.pop(0)(writer)
        await reader.read()


@contextlib.asynccontextmanager
async def serving(
    *scripts: Callable[[asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(list(scripts), scheme="http" if tls is None else "https")
    async with listening(server.serve, tls=tls) as port:
        server.port = port
        yield server


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the test; a server's task that ends cancelled is reported as an error
        finally:
            tasks.discard(task)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        # Transports close some turns of the loop after they were told to.
        for _ in range(5):
            await asyncio.sleep(0)


def says(*pieces: bytes, then_close: bool = False) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def script(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if then_close:
            writer.close()

    return script


async def hangs(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def resets(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def upstream(*, wait: float = 20.0, connections_max: int = 8, keep_idle_seconds: float = 60.0) -> Upstream:
    return Upstream(
        UpstreamTimeouts(connect=20.0, first_byte=wait, idle=wait),
        UpstreamBounds(connections_max=connections_max, keep_idle_seconds=keep_idle_seconds),
    )


async def asked(client: Upstream, server: Server, body: bytes = b"{}") -> Reply:
    return await client.post(server.url, "/v1/x", b"x-request-id: 1\r\n", body)


async def whole(client: Upstream, server: Server, body: bytes = b"{}") -> tuple[int, bytes]:
    reply = await asked(client, server, body)
    try:
        return reply.status, await reply.read_all(bytes_max=MUCH)
    finally:
        reply.close()


@st.composite
def replies(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """A valid reply in arbitrary pieces, and whether the connection ends with it."""
    status = draw(st.sampled_from([200, 400, 503]))
    body = draw(st.binary(max_size=300))
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    head = b"HTTP/1.1 %d Whatever\r\nContent-Type: text/plain\r\n" % status
    if draw(st.booleans()):
        head = b"HTTP/1.1 100 Continue\r\n\r\n" + head
    close = framing == "end" or draw(st.booleans())
    if close:
        head += b"connection: close\r\n"
    if framing == "length":
        text = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    elif framing == "end":
        text = head + b"\r\n" + body
    else:
        size = draw(st.integers(1, 100))
        chunks = b"".join(
            b"%X\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size])
            for at in range(0, len(body), size)
        )
        text = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)], close


@settings(max_examples=30, deadline=None)
@given(scripted=st.lists(replies(), min_size=1, max_size=3))
def test_it_reads_what_httpx_reads(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], scripted: list[tuple[list[bytes], bool]]
) -> None:
    async def compare() -> None:
        scripts = [says(*pieces, then_close=close) for pieces, close in scripted]
        async with serving(*scripts, *scripts) as server, httpx.AsyncClient() as judge:
            client = upstream()
            ours = [await whole(client, server, b"x" * number) for number in range(len(scripts))]
            client.close()
            theirs = [
                await judge.post(f"{server.url}/v1/x", content=b"x" * number)
                for number in range(len(scripts))
            ]
            assert ours == [(reply.status_code, reply.content) for reply in theirs]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(compare())


@settings(max_examples=60, deadline=None)
@given(garbage=st.binary(max_size=200), cut=st.integers(0, 200))
def test_garbage_is_an_error_and_never_an_answer_of_success(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], garbage: bytes, cut: int
) -> None:
    async def ask() -> None:
        valid = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
        async with serving(says(valid[:cut] + garbage[:99], then_close=True)) as server:
            client = upstream()
            with pytest.raises(UpstreamError):
                await whole(client, server)
            client.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(ask())


async def test_a_request_is_what_was_asked_for() -> None:
    async with serving(says(HELLO)) as server:
        client = upstream()
        await whole(client, server, b'{"a":1}')
        client.close()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/x HTTP/1.1",
        b"host: 127.0.0.1:%d" % server.port,
        b"content-type: application/json",
        b"x-request-id: 1",
        b"content-length: 7",
    ]
    assert body == b'{"a":1}'


async def test_a_connection_is_used_again_after_a_whole_reply() -> None:
    async with serving(*[says(HELLO)] * 3) as server:
        client = upstream()
        for _ in range(3):
            assert await whole(client, server) == (200, b"hello")
        client.close()
    assert server.connections == 1


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong",
        HELLO + b"rubbish",
    ],
)
async def test_a_connection_is_not_used_again_after(first: bytes) -> None:
    async with serving(says(first), says(HELLO)) as server:
        client = upstream()
        assert await whole(client, server) == (200, b"hello")
        assert await whole(client, server) == (200, b"hello")
        client.close()
    assert server.connections == 2


async def test_a_reply_that_is_closed_early_closes_its_connection() -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello"), says(HELLO)) as server:
        client = upstream()
        reply = await asked(client, server)
        assert await reply.read() == b"hello"
        reply.close()
        reply.close()
        assert await whole(client, server) == (200, b"hello")
        client.close()
    assert server.connections == 2


async def test_a_reply_that_is_left_gives_its_connection_back_when_it_ends() -> None:
    def in_two(pause_seconds: float) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
        async def run(writer: asyncio.StreamWriter) -> None:
            writer.write(HELLO[:-1])
            await asyncio.sleep(pause_seconds)
            writer.write(HELLO[-1:])

        return run

    async with serving(in_two(0.05), says(HELLO), in_two(3600), says(HELLO)) as server:
        client = upstream()
        reply = await asked(client, server)
        reply.leave(seconds=20.0)
        await eventually(lambda: reply._closed)
        assert await whole(client, server) == (200, b"hello")
        assert server.connections == 1
        late = await asked(client, server)
        late.leave(seconds=0.01)
        await eventually(lambda: late._closed)
        assert await whole(client, server) == (200, b"hello")
        assert server.connections == 2
        client.close()


async def test_an_idle_connection_is_not_kept_longer_than_told() -> None:
    async with serving(says(HELLO), says(HELLO)) as server:
        client = upstream(keep_idle_seconds=0.05)
        await whole(client, server)
        await asyncio.sleep(0.1)
        await whole(client, server)
        client.close()
    assert server.connections == 2


async def test_a_kept_connection_that_is_closed_meanwhile_is_told_apart() -> None:
    async with serving(says(HELLO), resets) as server:
        client = upstream()
        await whole(client, server)
        with pytest.raises(StaleConnection):
            await whole(client, server)
        client.close()


async def test_a_new_connection_that_is_closed_without_an_answer_is_broken() -> None:
    async with serving(resets) as server:
        client = upstream()
        with pytest.raises(ReplyBroken):
            await whole(client, server)
        client.close()


async def test_nobody_there(unused_port: Callable[[], int]) -> None:
    client = upstream()
    with pytest.raises(Unreachable):
        await client.post(f"http://127.0.0.1:{unused_port()}", "/", b"", b"")


@pytest.mark.parametrize("script", [hangs, says(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello")])
async def test_an_engine_that_says_no_more_is_given_up(
    script: Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with serving(script) as server:
        client = upstream(wait=0.1)
        with pytest.raises(ReplyTooSlow):
            await whole(client, server)
        await asyncio.sleep(0.05)
        client.close()


async def test_an_engine_that_stalls_after_its_head_is_not_waited_for_as_long_as_for_its_head() -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")) as server:
        client = Upstream(
            UpstreamTimeouts(connect=20.0, first_byte=120.0, idle=0.1),
            UpstreamBounds(connections_max=8, keep_idle_seconds=60.0),
        )
        reply = await asked(client, server)
        async with asyncio.timeout(30):
            with pytest.raises(ReplyTooSlow):
                await reply.read()
        reply.close()
        client.close()


async def test_the_time_that_the_reader_takes_is_not_the_engine_s() -> None:
    asked_for = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asked_for.wait()
        writer.write(b"hello")

    async with serving(slowly) as server:
        client = upstream(wait=3.0)
        reply = await asked(client, server)
        assert await reply.read() == b"hello"
        reply.wait_seconds = 0.2
        await asyncio.sleep(0.2 + 2 * LOOK_SECONDS)
        reply.wait_seconds = 20.0
        asked_for.set()
        assert await reply.read() == b"hello"
        reply.close()
        client.close()


@pytest.mark.parametrize("status", [b"000", b"099", b"600", b"999"])
async def test_a_status_that_means_nothing_is_a_broken_reply(status: bytes) -> None:
    async with serving(says(b"HTTP/1.1 %b X\r\ncontent-length: 2\r\n\r\nok" % status)) as server:
        client = upstream()
        with pytest.raises(ReplyBroken):
            await asyncio.wait_for(asked(client, server), 15)
        client.close()


async def test_what_came_before_a_break_can_still_be_read() -> None:
    async with serving(
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello", then_close=True)
    ) as server:
        client = upstream()
        reply = await asked(client, server)
        await asyncio.sleep(0.05)
        assert await reply.read() == b"hello"
        with pytest.raises(ReplyBroken):
            await reply.read()
        reply.close()
        client.close()


async def test_a_reader_that_is_slow_makes_the_engine_wait() -> None:
    sent = 0

    async def endlessly(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MUCH)
        for _ in range(MUCH // 2**16):
            writer.write(b"x" * 2**16)
            await writer.drain()
            sent += 2**16

    async with serving(endlessly) as server:
        client = upstream()
        reply = await asked(client, server)
        assert await at_rest(lambda: sent) < MUCH, "it went on"
        assert reply.buffered_bytes < READ_AHEAD_BYTES_MAX + 2**20
        body = await reply.read_all(bytes_max=MUCH)
        assert len(body) == MUCH
        reply.close()
        client.close()


async def test_a_reply_has_a_bound() -> None:
    async with serving(says(HELLO)) as server:
        client = upstream()
        reply = await asked(client, server)
        with pytest.raises(ReplyTooLarge):
            await reply.read_all(bytes_max=4)
        reply.close()
        client.close()


async def test_a_head_has_a_bound() -> None:
    line = b"x: " + b"y" * 1000 + b"\r\n"
    async with serving(says(b"HTTP/1.1 200 OK\r\n", *[line] * (HEAD_BYTES_MAX // 1000 + 2))) as server:
        client = upstream()
        with pytest.raises(ReplyBroken):
            await whole(client, server)
        client.close()


async def test_connections_have_a_bound() -> None:
    async with serving(hangs, hangs) as server:
        client = upstream(connections_max=2)
        waiting = [asyncio.create_task(whole(client, server)) for _ in range(2)]
        await eventually(lambda: server.connections == 2)
        with pytest.raises(ConnectionsExhausted):
            await whole(client, server)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        client.close()


async def test_whoever_is_cancelled_breaks_the_exchange_off_and_leaves_the_others_alone() -> None:
    async with serving(hangs, says(HELLO)) as server:
        client = upstream()
        waiting = asyncio.create_task(whole(client, server))
        await eventually(lambda: server.requests)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await whole(client, server) == (200, b"hello")
        client.close()


async def test_a_request_that_the_engine_did_not_read_is_not_the_next_one_s_beginning() -> None:
    async def answers_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.close()

    async with listening(answers_early) as port:
        client = upstream()
        for _ in range(2):
            reply = await client.post(f"http://127.0.0.1:{port}", "/", b"", b"x" * 2**24)
            assert (reply.status, await reply.read()) == (413, b"")
            reply.close()
        client.close()
