"""The load counts whole answers alone, and the engine says what it was asked for."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator

import pytest
from benchmarks.gateway import engine, load
from benchmarks.gateway.load import Target, Unanswered, Work


class Answering(socketserver.StreamRequestHandler):
    """Answers each request with the same pieces, one write each."""

    disable_nagle_algorithm = True
    pieces: tuple[bytes, ...] = ()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while self.request.recv(65536):
                for piece in self.pieces:
                    self.request.sendall(piece)


@contextlib.contextmanager
def answering(*pieces: bytes) -> Iterator[int]:
    """The port of a server in threads of its own, as the load has a loop of its own."""
    handler = type("Answering", (Answering,), {"pieces": pieces})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            serving.join()


def measured(port: int, *, streamed: bool) -> load.Window[int]:
    work = Work(streamed=streamed, connections=2, warm_seconds=0.05, seconds=0.1, begin_seconds=0.01)
    return load.measure(Target(port, "m"), work, lambda: 7)


WHOLE = b'{"choices":[],"usage":{}}'


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n", WHOLE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n" + WHOLE[:9], WHOLE[9:]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n19\r\n", WHOLE + b"\r\n0\r\n", b"\r\n"),
    ],
    ids=["with a length", "in two parts", "in chunks"],
)
def test_an_answer_counts_when_it_is_whole_however_it_is_framed(pieces: tuple[bytes, ...]) -> None:
    with answering(*pieces) as port:
        window = measured(port, streamed=False)
    assert window.requests == len(window.latencies_ms) > 0
    assert window.before == window.after == 7


def test_a_steady_load_rests_between_its_requests() -> None:
    work = Work(streamed=False, connections=2, warm_seconds=0.05, seconds=0.5, requests_per_second=40)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n" + WHOLE) as port:
        window = load.measure(Target(port, "m"), work, lambda: 7)
    # At once it would be thousands; it goes on until there are ten, and makes good what a pause took from it.
    assert load.REQUESTS_MIN <= window.requests < 1000


def test_chunks_of_streams_are_counted_and_their_first_ones_timed() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b"b\r\ndata: {}\r\n\r\n\r\n"
    with answering(head, event, event + event, b"0\r\n\r\n") as port:
        window = measured(port, streamed=True)
    assert window.requests > 0
    # A window may cut one stream of each client at either end.
    assert abs(window.chunks - 3 * window.requests) <= 2 * 3
    assert abs(len(window.latencies_ms) - window.requests) <= 2


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_ends_the_run_with_what_it_said(streamed: bool) -> None:
    refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 26\r\n\r\n" + b'{"error":"no such key"}   '
    with answering(refusal) as port, pytest.raises(Unanswered, match="no such key"):
        measured(port, streamed=streamed)


def test_a_stream_that_breaks_off_with_an_error_ends_the_run() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b'data: {"error":{"code":"upstream_failed"}}\n\n'
    whole = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
    with answering(whole) as port, pytest.raises(Unanswered, match="upstream_failed"):
        measured(port, streamed=True)


@pytest.mark.parametrize("counted", [False, True])
def test_the_engine_counts_in_each_chunk_where_that_was_asked(counted: bool) -> None:
    pieces = engine.stream(3, counted=counted)
    chunks = [json.loads(piece.partition(b"data: ")[2].split(b"\n")[0]) for piece in pieces]
    assert [chunk.get("usage", {}).get("completion_tokens") for chunk in chunks] == (
        [1, 2, 3, 3] if counted else [None, None, None, 3]
    )
    assert pieces[-1].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_the_engine_s_whole_answer_says_its_length() -> None:
    head, _, body = engine.whole_answer(engine.completion()).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["usage"]["completion_tokens"] > 0
