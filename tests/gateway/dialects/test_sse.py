"""Events come out whole, however the bytes were cut on their way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects import sse
from headrace_gateway.dialects.sse import Events, EventTooLarge, event

# JSON text: no line ends but within strings, where they are escaped.
payloads = st.binary(min_size=1, max_size=30).filter(lambda data: not {10, 13} & set(data))


@st.composite
def cut(draw: st.DrawFn, text: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(
    st.data(),
    st.lists(payloads.filter(lambda data: not data.startswith(b" ")), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_events_survive_any_cutting(
    data: st.DataObject, sent: list[bytes], line_end: bytes, mark: bytes
) -> None:
    text = mark + b"".join(map(event, sent)).replace(b"\n", line_end)
    events = Events()

    received = [payload for piece in data.draw(cut(text)) for payload in events.feed(piece)]

    assert received == sent


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (b": a comment\n\ndata: {}\n\n", [b"{}"]),
        (b": a comment\ndata: {}\n\n", [b"{}"]),
        (b"data:{}\n\n", [b"{}"]),
        (b"event: message\nid: 1\ndata: {}\n\n", [b"{}"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b"\n\n\n\ndata: {}\n\n", [b"{}"]),
        (b"data: {}\n", []),
        (b"data: {}\r\n\rdata: 1\n\r\n", [b"{}", b"1"]),
        (b"data: {}\n\n\xef\xbb\xbfdata: 1\n\n", [b"{}"]),
    ],
)
def test_what_else_server_sent_events_may_be(text: bytes, received: list[bytes]) -> None:
    assert Events().feed(text) == received


def test_a_large_event_costs_no_more_than_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    class Counting(bytearray):
        def find(self, sought: bytes, start: int = 0) -> int:  # type: ignore[override]
            nonlocal looked_at
            looked_at += len(self) - start
            return super().find(sought, start)

    monkeypatch.setattr(sse, "bytearray", Counting, raising=False)
    events = Events()
    text = b'data: "' + b"x" * 2**20 + b'"\n\n'
    received = [payload for at in range(0, len(text), 1024) for payload in events.feed(text[at : at + 1024])]
    assert received == [text[6:-2]]
    assert looked_at < 2 * len(text)


def test_an_event_without_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 100)
    events = Events()
    events.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLarge):
        events.feed(b"x" * 90)
