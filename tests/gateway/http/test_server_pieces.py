"""However a client's bytes are cut, the server understands the same; whatever they are, it stays up."""

import asyncio
import itertools
import json
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_platform.local.ports import unused_port
from tests.gateway.http.echo import answers, serving

RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    chunks: list[int] | None
    """Sizes of the chunks the body is sent in; null: with its length."""

    def wire(self, *, last: bool) -> bytes:
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: x\r\n" + (
            "Connection: close\r\n" if last else ""
        )
        if self.chunks is None:
            length = f"Content-Length: {len(self.body)}\r\n" if self.body else ""
            return f"{head}{length}\r\n".encode() + self.body
        rest, framed = self.body, b""
        for size in self.chunks:
            piece, rest = rest[:size], rest[size:]
            if piece:
                framed += b"%X;name=value\r\n%b\r\n" % (len(piece), piece)
        if rest:
            framed += b"%x\r\n%b\r\n" % (len(rest), rest)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + framed + b"0\r\nTrailer: x\r\n\r\n"


requests = st.builds(
    Request,
    method=st.sampled_from(["POST", "GET", "PUT", "DELETE"]),
    path=st.from_regex(r"/[a-z0-9/]{0,12}", fullmatch=True),
    body=st.binary(max_size=300),
    chunks=st.none() | st.lists(st.integers(1, 80), max_size=5),
)


async def said_to(pieces: list[bytes], *, then_end: bool) -> bytes:
    async with serving(unused_port()) as served, served.client() as client:
        await client.say(*pieces)
        if then_end:
            client.writer.write_eof()
        return await client.rest()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@RELAXED
@given(sent=st.lists(requests, min_size=1, max_size=6), places=st.lists(st.integers(0, 10**6), max_size=12))
def test_requests_in_any_pieces_are_answered_in_order(sent: list[Request], places: list[int]) -> None:
    data = b"".join(each.wire(last=number == len(sent)) for number, each in enumerate(sent, 1))

    said = asyncio.run(said_to(cut(data, places), then_end=False))

    assert [json.loads(body) for _, body in answers(said)] == [
        {"method": each.method, "path": each.path, "body": each.body.decode("latin-1")} for each in sent
    ]


@RELAXED
@given(
    sent=requests,
    changes=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 4), st.binary(max_size=6)), min_size=1, max_size=4
    ),
    places=st.lists(st.integers(0, 10**6), max_size=4),
)
def test_whatever_the_bytes_are_the_server_answers_or_closes(
    sent: Request, changes: list[tuple[int, int, bytes]], places: list[int]
) -> None:
    data = sent.wire(last=True)
    for place, removed, put in changes:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + removed :]

    said = asyncio.run(said_to(cut(data, places), then_end=True))

    assert all(status in {200, 400, 408, 413, 417, 431, 501, 505} for status, _ in answers(said))
