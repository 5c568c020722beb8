"""Streams that are read together: a lone one at once, several after a rest, and none once it has left."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx2 as httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_gateway.routing.upstream.connection import READ_AHEAD_BYTES_MAX
from headrace_gateway.routing.upstream.errors import ReplyBroken
from headrace_gateway.routing.upstream.gathering import READY_MAX, Gathering
from tests.gateway.routing.upstream.test_client import (
    HELLO,
    MUCH,
    asked,
    replies,
    says,
    serving,
    upstream,
    whole,
)
from tests.gateway.waiting import at_rest, eventually

STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
NEVER = 3600.0


@dataclass
class Streams:
    """Sockets that are read together, and what was read of each."""

    gathering: Gathering
    ends: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    def join(self, then: Callable[[], None] = lambda: None) -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number = len(self.ends)
        self.ends.append((ours, theirs))
        self.heard.append(b"")

        def read() -> None:
            self.heard[number] += os.read(ours.fileno(), 1024)
            then()

        self.gathering.join(ours.fileno(), read)
        return number

    def leave(self, number: int) -> None:
        self.gathering.leave(self.ends[number][0].fileno())

    def heard_bytes(self) -> int:
        return sum(map(len, self.heard))

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.ends[number][1].send(b"a")


@contextlib.asynccontextmanager
async def streams(*, rest_seconds: float = NEVER) -> AsyncIterator[Streams]:
    opened = Streams(Gathering(asyncio.get_running_loop(), rest_seconds=rest_seconds))
    try:
        yield opened
    finally:
        opened.gathering.close()
        for end in (each for pair in opened.ends for each in pair):
            end.close()


async def test_one_that_is_alone_is_read_as_soon_as_it_says_something() -> None:
    async with streams() as opened:
        first, second = opened.join(), opened.join()
        for number in (first, second, first, first):
            before = opened.heard[number]
            opened.say(number)
            await eventually(lambda: opened.heard[number] == before + b"a")  # noqa: B023


async def test_several_are_read_together_and_again_only_after_a_rest() -> None:
    async with streams() as opened:
        several = [opened.join() for _ in range(3)]
        opened.say(*several)
        await eventually(lambda: opened.heard == [b"a"] * 3)
        opened.say(*several)
        assert await at_rest(opened.heard_bytes) == 3


async def test_more_than_are_read_at_a_look_are_read_without_a_rest_between() -> None:
    async with streams() as opened:
        opened.say(*[opened.join() for _ in range(3 * READY_MAX + 1)])
        await eventually(lambda: opened.heard == [b"a"] * (3 * READY_MAX + 1))


async def test_what_is_said_during_a_rest_is_read_after_it_and_who_is_alone_then_waits_no_more() -> None:
    async with streams(rest_seconds=0.01) as opened:
        several = [opened.join() for _ in range(3)]
        for times in range(1, 20):
            opened.say(*several)
            await eventually(lambda: opened.heard == [b"a" * times] * 3)  # noqa: B023
        await eventually(lambda: opened.gathering._next is None)
        opened.gathering._rest_seconds = NEVER
        opened.say(several[0])
        await eventually(lambda: opened.heard_bytes() == 3 * 19 + 1)


async def test_who_has_left_is_not_read_not_even_at_the_look_that_found_it() -> None:
    async with streams() as opened:
        joined = {opened.join(lambda: leave_but(0)), opened.join(lambda: leave_but(1))}

        def leave_but(number: int) -> None:
            for other in joined - {number}:
                opened.leave(other)
                joined.discard(other)

        opened.say(0, 1)
        await eventually(opened.heard_bytes)
        assert await at_rest(opened.heard_bytes) == 1


@settings(max_examples=30, deadline=None)
@given(scripted=st.lists(replies(), min_size=1, max_size=3))
def test_a_gathered_reply_is_what_httpx_reads(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], scripted: list[tuple[list[bytes], bool]]
) -> None:
    async def compare() -> None:
        scripts = [says(*pieces, then_close=close) for pieces, close in scripted]
        async with serving(*scripts, *scripts) as server, httpx.AsyncClient() as judge:
            client = upstream()
            ours = []
            for _ in scripts:
                reply = await asked(client, server)
                reply.gather()
                ours.append((reply.status, await reply.read_all(bytes_max=MUCH)))
                reply.close()
            client.close()
            theirs = [await judge.post(f"{server.url}/v1/x", content=b"{}") for _ in scripts]
            assert ours == [(reply.status_code, reply.content) for reply in theirs]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(compare())


async def test_a_connection_is_used_again_after_a_gathered_reply_whoever_reads_next() -> None:
    async with serving(*[says(HELLO[:-1], HELLO[-1:])] * 6) as server:
        client = upstream()
        for gathered in (True, False, True, True, False, True):
            reply = await asked(client, server)
            if gathered:
                reply.gather()
            assert await reply.read_all(bytes_max=MUCH) == b"hello"
            reply.close()
        client.close()
    assert server.connections == 1


async def test_many_replies_are_gathered_and_each_gets_its_own() -> None:
    def counts(number: int) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
        async def script(writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM)
            for each in range(50):
                piece = b"%d:%d," % (number, each)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await asyncio.sleep(0.001)
            writer.write(b"0\r\n\r\n")

        return script

    async def one() -> bytes:
        reply = await asked(client, server)
        reply.gather()
        try:
            return await reply.read_all(bytes_max=MUCH)
        finally:
            reply.close()

    async with serving(*[counts(number) for number in range(8)]) as server:
        client = upstream()
        bodies = await asyncio.gather(*[one() for _ in range(8)])
        client.close()
    assert sorted(bodies) == [b"".join(b"%d:%d," % (n, each) for each in range(50)) for n in range(8)]


async def test_a_reader_that_is_slow_makes_the_engine_wait_also_where_it_is_gathered() -> None:
    sent = 0

    async def endlessly(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MUCH)
        for number in range(MUCH // 2**16):
            writer.write(bytes([number % 256]) * 2**16)
            await writer.drain()
            sent += 2**16

    async with serving(endlessly) as server:
        client = upstream()
        reply = await asked(client, server)
        reply.gather()
        assert await at_rest(lambda: sent) < MUCH, "it went on"
        assert reply.buffered_bytes < READ_AHEAD_BYTES_MAX + 2**20
        body = await reply.read_all(bytes_max=MUCH)
        assert body == b"".join(bytes([number % 256]) * 2**16 for number in range(MUCH // 2**16))
        reply.close()
        client.close()


async def test_a_gathered_reply_that_is_closed_early_closes_its_connection_and_no_other() -> None:
    said = asyncio.Event()

    async def in_two(writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO[:-1])
        await said.wait()
        writer.write(HELLO[-1:])

    async with serving(in_two, in_two, says(HELLO)) as server:
        client = upstream()
        early, other = [await asked(client, server) for _ in range(2)]
        for reply in (early, other):
            reply.gather()
        early.close()
        early.gather()
        # It may get the number that the other's descriptor had.
        assert await whole(client, server) == (200, b"hello")
        said.set()
        assert await other.read_all(bytes_max=MUCH) == b"hello"
        other.close()
        client.close()


async def test_a_gathered_reply_without_a_length_ends_with_its_connection_and_not_with_a_reset() -> None:
    closing = asyncio.Event()

    def ends_by(
        end: Callable[[asyncio.StreamWriter], None],
    ) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
        async def script(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhel")
            await closing.wait()
            end(writer)

        return script

    def reset(writer: asyncio.StreamWriter) -> None:
        socket_ = writer.get_extra_info("socket")
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(ends_by(reset), ends_by(asyncio.StreamWriter.close)) as server:
        client = upstream()
        cut, whole_one = [await asked(client, server) for _ in range(2)]
        for reply in (cut, whole_one):
            reply.gather()
            assert await reply.read() == b"hel"
        closing.set()
        with pytest.raises(ReplyBroken):
            await cut.read()
        assert await whole_one.read() == b""
        for reply in (cut, whole_one):
            reply.close()
        client.close()
