"""Requests that two readers of HTTP could understand differently, or that would fill us: refused, and the last."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from headrace_gateway.http.request_reader import HEAD_BYTES_MAX, HEADERS_MAX
from tests.gateway.http.echo import Served, answers, serving
from tests.gateway.waiting import eventually

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def served(unused_port: Callable[[], int]) -> AsyncIterator[Served]:
    async with serving(unused_port()) as running:
        yield running


HAZARDS = {
    "a length and chunks": (400, POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks and a length": (400, POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc"),
    "two equal lengths": (400, POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc"),
    "a list of lengths": (400, POST + b"content-length: 3, 3\r\n\r\nabc"),
    "a signed length": (400, POST + b"content-length: +3\r\n\r\nabc"),
    "a length too large to count": (400, POST + b"content-length: 99999999999999999999999\r\n\r\nabc"),
    "a space before the colon": (400, POST + b"content-length : 3\r\n\r\nabc"),
    "a folded line": (400, POST + b"x: a\r\n b\r\n\r\n"),
    "bare line feeds": (400, b"GET / HTTP/1.1\nhost: x\n\n"),
    "one bare line feed": (400, b"GET / HTTP/1.1\r\nhost: x\n\r\n"),
    "a bare carriage return": (400, POST + b"x: a\rb\r\n\r\n"),
    "a NUL": (400, POST + b"x: a\x00b\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"),
    "two keys": (400, POST + b"authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n"),
    "two codings in two lines": (400, POST + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
    "chunks in HTTP/1.0": (400, b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a coding besides chunks": (501, POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a coding that only ends like chunks": (501, POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunks before another coding": (400, POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "an empty coding": (400, POST + b"transfer-encoding:\r\ncontent-length: 3\r\n\r\nabc"),
    "chunks that end in bare line feeds": (400, CHUNKED + b"3\nabc\n0\r\n\r\n"),
    "a chunk longer than it says": (400, CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n"),
    "a chunk size that is no number": (400, CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "HTTP/2 in a request line": (505, b"GET / HTTP/2.0\r\nhost: x\r\n\r\n"),
    "HTTP/2's preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "RTSP": (400, b"POST / RTSP/1.0\r\n\r\n"),
    "RTSP in the form of HTTP/1.1": (400, b"GET / RTSP/1.1\r\nhost: x\r\n\r\n"),
    "ICE": (400, b"SOURCE / ICE/1.0\r\n\r\n"),
    "an unknown expectation": (417, POST + b"expect: miracles\r\n\r\n"),
    "no HTTP at all": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a target without end": (431, b"GET /" + b"x" * (HEAD_BYTES_MAX + 1) + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
    "a header without end": (431, POST + b"x: " + b"y" * (2 * HEAD_BYTES_MAX)),
    "more headers than anybody needs": (
        431,
        POST + b"".join(b"x-%d: y\r\n" % number for number in range(HEADERS_MAX + 1)) + b"\r\n",
    ),
    "the same header again and again": (431, POST + b"x: y\r\n" * HEAD_BYTES_MAX + b"\r\n"),
    "a chunk's line without end": (400, CHUNKED + b"3;" + b"x" * (2 * HEAD_BYTES_MAX)),
    "trailers without end": (400, CHUNKED + b"0\r\n" + b"x: y\r\n" * HEAD_BYTES_MAX),
}


@pytest.mark.parametrize("pieces_of", [1_000_000, 1000])
@pytest.mark.parametrize("hazard", HAZARDS)
async def test_what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    served: Served, hazard: str, pieces_of: int
) -> None:
    status, sent = HAZARDS[hazard]
    data = sent + SMUGGLED

    said = await served.said_to(*(data[at : at + pieces_of] for at in range(0, len(data), pieces_of)))

    assert [answer[0] for answer in answers(said)] == [status]
    assert b"connection: close" in said
    assert "/smuggled" not in served.echo.served


async def test_another_protocol_is_known_in_whatever_pieces_its_line_comes(served: Served) -> None:
    sent = POST + b"\r\n" + b"GET /other RTSP/1.1\r\nhost: x\r\n\r\n" + SMUGGLED

    said = await served.said_to(*(bytes((byte,)) for byte in sent))

    assert [status for status, _ in answers(said)] == [200, 400]
    assert served.echo.served == ["/"]


async def test_what_came_before_a_hazard_is_served(served: Served) -> None:
    good = b"GET /good HTTP/1.1\r\nhost: x\r\n\r\n"

    said = await served.said_to(good + HAZARDS["two lengths"][1] + SMUGGLED)

    assert [status for status, _ in answers(said)] == [200]
    assert served.echo.served == ["/good"]


async def test_nothing_after_a_request_that_says_it_is_the_last_is_served(served: Served) -> None:
    said = await served.said_to(b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" + SMUGGLED)

    assert [status for status, _ in answers(said)] == [200]
    assert served.echo.served == ["/last"]


async def test_a_body_that_was_refused_unread_is_not_taken_for_a_request(served: Served) -> None:
    said = await served.said_to(
        b"POST /refused HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n", SMUGGLED, b"x" * 2000
    )

    assert [status for status, _ in answers(said)] == [401]
    assert served.echo.served == ["/refused"]


async def test_who_sends_too_many_requests_at_once_gets_answers_to_some_and_asks_again(
    served: Served,
) -> None:
    many = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(1000))

    said = await served.said_to(many)

    count = len(list(answers(said)))
    assert 1 <= count < 1000
    assert served.echo.served == [f"/{number}" for number in range(count)]


LARGE_HEAD = b"POST /behind HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 60_000 + b"\r\n"
FAT = LARGE_HEAD + b"content-length: 60000\r\n\r\n" + b"z" * 60_000
MANY_HEADERS = (
    POST.replace(b"/", b"/behind", 1) + b"".join(b"%d: y\r\n" % number for number in range(120)) + b"\r\n"
)


@pytest.mark.parametrize(("behind", "served_of_it"), [(FAT, 1), (MANY_HEADERS, 6)])
@pytest.mark.parametrize("before", ["/held", "/whole"])
async def test_what_waits_behind_an_answer_has_a_bound(
    served: Served, before: str, behind: bytes, served_of_it: int
) -> None:
    async with served.client() as client:
        await client.say(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % before.encode())
        await client.say(*[behind] * 15)
        # Nothing of it is kept, but it is read.
        await eventually(client.all_has_left)
        served.echo.release.set()
        said = await client.rest()
    assert [status for status, _ in answers(said)] == [200] * (1 + served_of_it)
    assert served.echo.served == [before] + ["/behind"] * served_of_it


async def test_a_body_that_waits_behind_an_answer_has_a_bound_of_its_own(served: Served) -> None:
    async with served.client() as client:
        await client.say(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.say(CHUNKED, *[b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 20)
        await eventually(client.all_has_left)
        served.echo.release.set()
        [(before, _), (behind, _)] = answers(await client.rest())
    assert (before, behind) == (200, 400)


async def test_a_head_that_does_not_end_is_not_waited_for(unused_port: Callable[[], int]) -> None:
    async with serving(unused_port(), head_timeout_seconds=0.2) as served, served.client() as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n")
        for _ in range(20):
            # Bytes now and then do not prolong it.
            await client.say(b"x")
            await asyncio.sleep(0.1)
            if client.reader.at_eof():
                break
        assert await client.ended()


async def test_a_body_that_does_not_come_is_not_waited_for(served: Served) -> None:
    served.echo.body_timeout_seconds = 0.1
    said = await served.said_to(POST + b"content-length: 5\r\n\r\nabc")
    assert [status for status, _ in answers(said)] == [408]
