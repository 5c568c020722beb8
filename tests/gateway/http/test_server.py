"""The server as clients meet it: requests in any pieces, answers in order, connections that are kept or not."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Callable

import httpx2 as httpx
import pytest

from headrace_gateway.http import connection as connections
from headrace_gateway.http import server
from tests.gateway.http.echo import BODY_BYTES_MAX, WHOLE_BYTES, Served, answers, serving
from tests.gateway.waiting import at_rest, eventually

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


@pytest.fixture
async def served(unused_port: Callable[[], int]) -> AsyncIterator[Served]:
    async with serving(unused_port()) as running:
        yield running


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b?c=d", "/a/b"),
        ("/v1/models/zai-org%2FGLM", "/v1/models/zai-org/GLM"),
        ("http://elsewhere:80/a?b", "/a"),
        ("http://elsewhere", "/"),
        ("*", "*"),
    ],
)
async def test_every_form_of_target_names_a_path(served: Served, target: str, path: str) -> None:
    said = await served.said_to(b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % target.encode())
    [(status, body)] = answers(said)
    assert (status, json.loads(body)["path"]) == (200, path)


async def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(served: Served) -> None:
    async with served.client() as client:
        await client.say(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await client.head()
        await client.say(LAST)
        rest = await client.rest()
    assert b"content-length: " in head
    assert [status for status, _ in answers(rest)] == [200]


async def test_a_body_is_asked_for_when_it_is_wanted(served: Served) -> None:
    async with served.client() as client:
        await client.say(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n"
            b"connection: close\r\n\r\n"
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"abc")
        [(status, body)] = answers(await client.rest())
    assert (status, json.loads(body)["body"]) == (200, "abc")


async def test_http_1_0_is_not_told_to_go_on_as_it_would_take_that_for_the_answer(served: Served) -> None:
    said = await served.said_to(
        b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n", b"abc"
    )
    assert said.startswith(b"HTTP/1.1 200")


async def test_a_body_that_is_not_wanted_is_not_asked_for(served: Served) -> None:
    async with served.client() as client:
        await client.say(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
            % (BODY_BYTES_MAX + 1)
        )
        assert (await client.head()).startswith(b"HTTP/1.1 413")


async def test_a_connection_that_has_ended_leaves_nothing_to_the_garbage_collector(served: Served) -> None:
    def left() -> int:
        return sum(type(each) is connections.ClientConnection for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        for sent in (b"", GET, GET + LAST, get("/stream"), get("/broken"), b"no http", GET[:10]):
            async with served.client() as client:
                await client.say(sent)
                if sent.startswith(GET):
                    await client.head()
        await eventually(lambda: left() == 0)
    finally:
        gc.enable()


async def test_who_sends_a_body_that_is_too_large_still_reads_why(served: Served) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as http:
        reply = await http.post("/", content=b"x" * (16 * 1024 * 1024))
    assert reply.status_code == 413


@pytest.mark.parametrize("pieces_of", [1000, 1])
@pytest.mark.parametrize(
    ("rest", "body"),
    [
        (b"content-length: 3\r\n\r\nabc", "abc"),
        (b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
        (b"content-length: 0\r\n\r\n", ""),
        (b"\r\n", ""),
    ],
)
async def test_an_offer_to_upgrade_is_not_taken_up_and_the_request_is_served(
    served: Served, rest: bytes, body: str, pieces_of: int
) -> None:
    data = (
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABk\r\n" + rest
    )
    if pieces_of > 1:
        data += get("/smuggled")
    said = await served.said_to(*(data[at : at + pieces_of] for at in range(0, len(data), pieces_of)))
    [(status, answer)] = answers(said)
    assert (status, json.loads(answer)["body"]) == (200, body)
    assert served.echo.served == ["/"]


async def test_a_stream_to_http_1_0_ends_with_the_connection(served: Served) -> None:
    said = await served.said_to(b"GET /stream HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in said
    assert said.endswith(b"\r\n\r\nonetwothree")


async def test_a_stream_is_chunked_and_the_connection_goes_on(served: Served) -> None:
    said = await served.said_to(get("/stream") + LAST)
    [(status, body), (later, _)] = answers(said)
    assert (status, body, later) == (200, b"onetwothree", 200)


async def test_a_stream_that_is_broken_off_does_not_look_whole(served: Served) -> None:
    said = await served.said_to(get("/broken"))
    assert not said.endswith(b"0\r\n\r\n")


async def test_a_client_that_goes_is_noticed_while_nothing_is_sent(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/waits"))
    await asyncio.wait_for(served.echo.gone.wait(), 10)


async def test_a_client_that_goes_is_noticed_behind_what_it_sent_ahead(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/waits") + get("/later"))
    await asyncio.wait_for(served.echo.gone.wait(), 10)
    assert served.echo.served == ["/waits"]


async def test_a_client_that_goes_is_noticed_behind_a_large_body_that_it_sent_ahead(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/waits"))
        await client.say(b"POST /later HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % BODY_BYTES_MAX)
        await client.say(*[b"x" * 32 * 1024] * (BODY_BYTES_MAX // (32 * 1024)))
    await asyncio.wait_for(served.echo.gone.wait(), 10)
    assert served.echo.served == ["/waits"]


async def test_a_client_that_ends_its_side_counts_as_gone(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/waits"))
        client.writer.write_eof()
        await asyncio.wait_for(served.echo.gone.wait(), 10)
        assert await client.ended()


async def test_an_answer_that_is_ready_reaches_a_client_that_ended_its_side(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/held"))
        client.writer.write_eof()
        await asyncio.sleep(0.05)
        served.echo.release.set()
        [(status, _)] = answers(await client.rest())
    assert status == 200


async def test_a_body_cut_short_is_no_body(served: Served) -> None:
    async with served.client() as client:
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        client.writer.write_eof()
        [(status, _)] = answers(await client.rest())
    assert status == 400


async def test_who_does_not_read_is_sent_no_more_and_reads_it_all_later(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/flood"))
        sent = await at_rest(lambda: served.echo.pieces_sent)
        # What the kernel holds of it is its own affair; ours is `WRITE_AHEAD_BYTES_MAX`.
        assert sent < 20_000
        await client.reader.readexactly(8 * 1024 * 1024)
        await eventually(lambda: served.echo.pieces_sent > sent)
    await asyncio.wait_for(served.echo.gone.wait(), 10)


async def test_who_reads_nothing_for_long_counts_as_gone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    async with served.client() as client:
        await client.say(get("/flood"))
        await asyncio.wait_for(served.echo.gone.wait(), 10)


async def test_who_reads_a_long_answer_for_longer_than_a_minute_gets_all_of_it(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/whole"))
        await client.head()
        [connection] = served.connections
        for _ in range(4):
            await client.reader.readexactly(WHOLE_BYTES // 8)
            await a_minute_later(served, connection)
        await client.reader.readexactly(WHOLE_BYTES // 2)
        await client.say(LAST)
        assert [status for status, _ in answers(await client.rest())] == [200]


async def test_who_stops_reading_a_long_answer_counts_as_gone(served: Served) -> None:
    async with served.client() as client:
        await client.say(get("/whole"))
        await client.head()
        [connection] = served.connections
        for _ in range(3):  # by the first look the kernel may have taken some
            await a_minute_later(served, connection)
        assert served.connections == []


async def a_minute_later(served: Served, connection: connections.ClientConnection) -> None:
    connection.deadline = 0.0
    await served.ticked()


@pytest.mark.parametrize("path", ["/whole", "/stream"])
async def test_who_may_still_be_sending_gets_all_of_the_answer_before_it_is_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.0)
    async with served.client() as client:
        await client.say(
            b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" % path.encode()
        )
        await served.ticked()
        await served.ticked()
        [(status, body)] = answers(await client.rest())
        assert (status, len(body)) == (200, {"/whole": WHOLE_BYTES, "/stream": 11}[path])
        # It does not close its side, and is not waited for any longer.
        await eventually(lambda: served.connections == [])


async def test_a_connection_that_rests_is_closed_in_the_end(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_IDLE_SECONDS", 0.1)
    async with served.client() as client:
        await client.say(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.head()
        assert await client.ended()


async def test_a_connection_that_rests_makes_room_for_a_new_one(unused_port: Callable[[], int]) -> None:
    async with (
        serving(unused_port(), connections_max=1) as served,
        served.client() as resting,
        served.client() as another,
    ):
        assert await resting.ended()
        await another.say(LAST)
        assert [status for status, _ in answers(await another.rest())] == [200]


async def test_of_connections_that_rest_the_one_that_has_rested_longest_makes_room(
    unused_port: Callable[[], int],
) -> None:
    async with (
        serving(unused_port(), connections_max=2) as served,
        served.client() as first,
        served.client() as second,
    ):
        for client in (second, first):
            await client.say(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
            await client.head()
        async with served.client() as another:
            assert await second.ended()
            for client in (first, another):
                await client.say(GET)
                assert (await client.head()).startswith(b"HTTP/1.1 200")


async def test_a_connection_that_begins_a_request_or_was_refused_makes_no_room(
    unused_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 3600.0)
    async with (
        serving(unused_port(), connections_max=2) as served,
        served.client() as working,
        served.client() as beginning,
    ):
        await working.say(get("/held"))
        await beginning.say(b"GET ")
        for _ in range(3):
            async with served.client() as refused, served.client() as another:
                assert (await refused.head()).startswith(b"HTTP/1.1 503")
                await another.say(GET)
                assert (await another.head()).startswith(b"HTTP/1.1 503")
        assert served.echo.served == ["/held"]
        await beginning.say(b"/begun HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await beginning.head()).startswith(b"HTTP/1.1 200")


async def test_who_is_long_at_a_head_makes_room_where_nobody_rests(
    unused_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.0)
    async with (
        serving(unused_port(), connections_max=3) as served,
        served.client() as resting,
        served.client() as first,
        served.client() as second,
    ):
        for client in (second, first):
            await client.say(b"GET ")
        async with served.client() as another:
            assert await resting.ended()
            await another.say(get("/held"))
            async with served.client() as last:
                assert await second.ended()
                await last.say(GET)
                assert (await last.head()).startswith(b"HTTP/1.1 200")
            await first.say(b"/begun HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await first.head()).startswith(b"HTTP/1.1 200")
        assert not served.listener.beginning


async def test_only_so_many_connections_are_told_that_there_is_no_room(
    unused_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REFUSED_MAX", 2)
    async with (
        serving(unused_port(), connections_max=1) as served,
        served.client() as working,
        contextlib.AsyncExitStack() as refused,
    ):
        await working.say(get("/held"))
        for _ in range(5):
            client = await refused.enter_async_context(served.client())
            assert (await client.head()).startswith(b"HTTP/1.1 503")
            assert len(served.connections) <= 1 + 2


async def test_where_all_connections_are_at_work_a_new_one_is_told_so(
    unused_port: Callable[[], int],
) -> None:
    async with serving(unused_port(), connections_max=1) as served, served.client() as working:
        await working.say(get("/held"))
        said = await served.said_to()
        assert said.startswith(b"HTTP/1.1 503")
        served.echo.release.set()
        assert (await working.head()).startswith(b"HTTP/1.1 200")


async def test_the_end_closes_what_rests_and_waits_for_what_runs(served: Served) -> None:
    async with served.client() as resting, served.client() as working:
        await working.say(get("/held"))
        draining = asyncio.create_task(served.listener.drain(5))
        assert await resting.ended()
        assert not draining.done()
        served.echo.release.set()
        said = await working.rest()
        assert b"connection: close" in said
        assert [status for status, _ in answers(said)] == [200]
        assert await draining


async def test_what_does_not_end_in_time_is_told(served: Served) -> None:
    async with served.client() as working:
        await working.say(get("/held"))
        assert not await served.listener.drain(0.05)
        served.echo.release.set()
        assert await served.listener.drain(10)
