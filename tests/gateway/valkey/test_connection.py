"""Our Valkey client against the library it replaces, on a real Valkey, and against one that misbehaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_gateway.valkey.connection import Address, Valkey, parse_url
from headrace_gateway.valkey.errors import ValkeyConnectionLost, ValkeyRefused, ValkeyUnavailable
from headrace_gateway.valkey.functions import Function, Library
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS
from tests.gateway.waiting import eventually

keys = st.sampled_from(["a", "b", "c"])
values = st.binary(max_size=200) | st.text(max_size=50).filter(lambda text: text.isprintable())
fields = st.sampled_from(["f", "g"])
commands = st.one_of(
    st.tuples(st.just("SET"), keys, values),
    st.tuples(st.just("GET"), keys),
    st.tuples(st.just("APPEND"), keys, values),
    st.tuples(st.just("INCRBY"), keys, st.integers(-(2**40), 2**40)),
    st.tuples(st.just("HSET"), keys, fields, values),
    st.tuples(st.just("HGETALL"), keys),
    st.tuples(st.just("HMGET"), keys, fields, fields),
    st.tuples(st.just("RPUSH"), keys, values, values),
    st.tuples(st.just("LRANGE"), keys, st.just(0), st.just(-1)),
    st.tuples(st.just("DEL"), keys),
    st.tuples(st.just("EVAL"), st.just("return {1, 'x', {false, redis.call('EXISTS', 'a')}}"), st.just(0)),
    st.tuples(st.just("NOSUCHCOMMAND"), keys),
)


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Valkey]:
    valkey = Valkey(url, **{"timeout_seconds": VALKEY_TIMEOUT_SECONDS, **options})
    await valkey.start()
    try:
        yield valkey
    finally:
        await valkey.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(commands, max_size=40))
def test_replies_are_those_of_the_library(
    valkey_url: str, client: redis.Redis, script: list[tuple[Any, ...]]
) -> None:
    """All commands go out at once here, and one after another there."""

    async def ours() -> list[Any]:
        async with opened(valkey_url) as valkey:
            return await asyncio.gather(
                *(valkey.call(*command) for command in script), return_exceptions=True
            )

    client.flushall()
    theirs: list[Any] = []
    with redis.Redis.from_url(valkey_url, protocol=2) as library:
        library.response_callbacks.clear()
        execute: Any = library.execute_command
        for command in script:
            try:
                theirs.append(execute(*command))
            except redis.ResponseError as error:
                theirs.append(error)
    client.flushall()
    for expected, found in zip(theirs, asyncio.run(ours()), strict=True):
        if isinstance(expected, redis.ResponseError):
            assert isinstance(found, ValkeyRefused)
            assert str(expected) in str(found)
        else:
            assert found == expected


async def test_many_callers_each_get_their_own_reply(valkey_url: str) -> None:
    async with opened(valkey_url) as valkey:

        async def echo(number: int) -> None:
            for turn in range(20):
                text = f"{number}.{turn}".encode() * (number % 50 + 1)
                assert await valkey.call("ECHO", text) == text

        await asyncio.gather(*(echo(number) for number in range(200)))


async def test_a_cancelled_call_shifts_no_other_callers_reply(valkey_url: str) -> None:
    async with opened(valkey_url) as valkey:
        calls = [valkey.call("ECHO", str(number)) for number in range(100)]
        for cancelled in calls[::3]:
            cancelled.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        for number, reply in enumerate(found):
            if number % 3:
                assert reply == str(number).encode()
            else:
                assert isinstance(reply, asyncio.CancelledError)


async def test_a_full_pipe_refuses_instead_of_queueing(valkey_url: str) -> None:
    async with opened(valkey_url, outstanding_max=10) as valkey:
        calls = [valkey.call("PING") for _ in range(10)]
        with pytest.raises(ValkeyUnavailable):
            valkey.call("PING")
        assert await asyncio.gather(*calls) == [b"PONG"] * 10
        assert await valkey.call("PING") == b"PONG"


async def test_a_burst_that_the_socket_does_not_take_at_once_refuses_nobody(valkey_url: str) -> None:
    text = "x" * 4096
    async with opened(valkey_url) as valkey:
        burst = [valkey.call("ECHO", text) for _ in range(3000)]
        await asyncio.sleep(0)  # it is written, for the most part into our own memory
        after = valkey.call("PING")
        assert await asyncio.gather(*burst) == [text.encode()] * 3000
        assert await after == b"PONG"


async def test_a_library_is_loaded_only_when_it_is_not_known(valkey_url: str, client: redis.Redis) -> None:
    library = Library(
        "test", {"add": "return tonumber(ARGV[1]) + more", "say": "return ARGV"}, beginning="local more = 2"
    )
    client.config_resetstat()
    async with opened(valkey_url) as valkey:
        assert await library["add"].run(valkey, 5) == 7
        assert await library["say"].run(valkey, "x", b"y") == [b"x", b"y"]
        loaded: Any = client.info("commandstats")
        assert loaded["cmdstat_function|load"]["calls"] == 1
        client.function_flush()
        assert await _sent(valkey, library["add"], b"1") == 3
        loaded = client.info("commandstats")
        assert loaded["cmdstat_function|load"]["calls"] == 2


async def test_libraries_of_two_versions_stand_beside_each_other(valkey_url: str) -> None:
    async with opened(valkey_url) as valkey:
        older, newer = (Library("test", {"version": f"return {number}"})["version"] for number in (1, 2))
        for _ in range(2):
            assert await older.run(valkey) == 1
            assert await newer.run(valkey) == 2


async def test_what_a_function_or_its_library_does_wrong_is_told(valkey_url: str) -> None:
    async with opened(valkey_url) as valkey:
        broken = Library("broken", {"call": "return redis.call('NOSUCH')"})["call"]
        with pytest.raises(ValkeyRefused, match=r"[Uu]nknown"):
            await broken.run(valkey)
        assert isinstance(await _sent(valkey, broken), ValkeyRefused)
        unreadable = Library("unreadable", {"call": "this is not Lua"})["call"]
        with pytest.raises(ValkeyRefused, match="compiling"):
            await unreadable.run(valkey)
        refusal = await _sent(valkey, unreadable)
        assert isinstance(refusal, ValkeyRefused)
        assert refusal.function_unknown


async def _sent(valkey: Valkey, function: Function, *arguments: bytes) -> Any:
    """What `send` tells."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    function.send(valkey, told.set_result, *arguments)
    return await told


async def test_a_lost_connection_fails_its_calls_and_is_dialled_again(
    valkey_url: str, client: redis.Redis
) -> None:
    async with opened(valkey_url) as valkey:
        blocked = valkey.call("BLPOP", "nothing", 30)
        await valkey_has_blocked(client)
        client.client_kill_filter(_type="normal")
        with pytest.raises(ValkeyConnectionLost):
            await blocked
        await eventually(lambda: valkey.connected)
        assert await valkey.call("PING") == b"PONG"


async def valkey_has_blocked(client: redis.Redis) -> None:
    def blocked() -> bool:
        found: Any = client.info("clients")
        return bool(found["blocked_clients"] == 1)

    await eventually(blocked)


async def test_a_silent_valkey_is_given_up_in_time(valkey_url: str) -> None:
    async with opened(valkey_url, timeout_seconds=0.2) as valkey:
        await eventually(lambda: valkey.connected)
        started = asyncio.get_running_loop().time()
        first = valkey.call("BLPOP", "nothing", 120)
        second = valkey.call("PING")
        valkey._timeout_seconds = VALKEY_TIMEOUT_SECONDS  # of the connection after this one
        for call in (first, second):
            with pytest.raises(ValkeyConnectionLost):
                await call
        # It would have been silent for far longer.
        assert 0.08 <= asyncio.get_running_loop().time() - started < 30
        await eventually(lambda: valkey.connected)
        assert await valkey.call("PING") == b"PONG"


async def test_slow_but_steady_replies_are_not_a_silence() -> None:
    # In this process, so that whatever holds up the one holds up the other.
    async def steadily(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        while await reader.read(1000):
            await asyncio.sleep(0.1)
            writer.write(b"*-1\r\n")

    async with misbehaving(steadily) as url, opened(url, timeout_seconds=0.4) as valkey:
        for _ in range(12):
            reply = await valkey.call("BLPOP", "nothing", "0.1")
            assert reply is None


async def test_a_wrong_password_is_unavailable_and_never_shown(
    valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = parse_url(valkey_url)
    wrong = f"redis://:not-the-password@{address.host}:{address.port}/0"
    async with opened(wrong) as valkey:
        assert not valkey.connected
        with pytest.raises(ValkeyUnavailable):
            valkey.call("PING")
    shown = capsys.readouterr()
    assert "WRONGPASS" in shown.out + shown.err
    assert "not-the-password" not in shown.out + shown.err + repr(address)


async def test_the_database_of_the_url_is_selected(valkey_url: str, client: redis.Redis) -> None:
    async with opened(valkey_url.rpartition("/")[0] + "/3") as valkey:
        await valkey.call("SET", "only-in-three", "x")
    assert client.exists("only-in-three") == 0
    client.select(3)
    assert client.get("only-in-three") == b"x"
    client.select(0)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def misbehaving(handler: Handler) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"+PONG\r\n")


@pytest.mark.parametrize(
    "answer", [b"@garbage\r\n", b"+ONE\r\n+TWO\r\n+THREE\r\n", b"-READONLY replica\r\n", b""]
)
async def test_what_is_no_answer_ends_the_connection(answer: bytes) -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        if await reader.read(1000):
            writer.write(answer)
            await writer.drain()

    async with misbehaving(answer_once) as url, opened(url) as valkey:
        calls = [valkey.call("PING") for _ in range(2)]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        assert all(
            isinstance(reply, ValkeyConnectionLost | ValkeyRefused) or reply in {b"ONE", b"TWO"}
            for reply in replies
        )
        # Only a new connection, greeted anew, answers again.
        await eventually(lambda: valkey.connected)


async def test_replies_in_any_portions_are_put_together(valkey_url: str) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.read(1000)
        for byte in b"*2\r\n$5\r\nhello\r\n:42\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)
        await reader.read(1000)

    async with misbehaving(drip) as url, opened(url) as valkey:
        assert await valkey.call("ANY") == [b"hello", 42]


def test_urls_are_read_and_passwords_not_shown() -> None:
    assert parse_url("rediss://user:p%40ss@h:1/2") == Address("h", 1, 2, "user", "p@ss", tls=True)
    assert parse_url("valkey://h") == Address("h", 6379, 0, None, None, tls=False)
    assert "p@ss" not in repr(parse_url("rediss://user:p%40ss@h:1/2"))
    with pytest.raises(ValueError, match="looks like"):
        parse_url("http://h")
