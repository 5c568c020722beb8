"""Server-sent events, as far as engines use them: `data:` lines, comments, blank lines between events."""

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""An event with logprobs of a long prompt has some megabytes; one without end must not fill the memory."""

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"


class EventTooLarge(Exception):
    """An event did not end within `EVENT_BYTES_MAX`."""


def event(payload: bytes) -> bytes:
    return b"data: %b\n\n" % payload


def named_event(name: bytes, payload: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, payload)


class Events:
    """Cuts a byte stream, however it is split, into the payloads of its events."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads of the events that are whole now."""
        return [payload for block in self.blocks(piece) if (payload := payload_of(block))]

    def blocks(self, piece: bytes) -> list[bytes]:
        """The events that are whole now, as they stood on the wire, without the blank line after each."""
        if b"\r" in piece:
            # JSON has no bare carriage return, so these are line ends, wherever the bytes were split.
            piece = piece.replace(b"\r", b"")
        if self._rest:
            piece = self._rest + piece
        blocks = piece.split(b"\n\n")
        self._rest = blocks.pop()
        if len(self._rest) > EVENT_BYTES_MAX:
            raise EventTooLarge
        return blocks


def payload_of(block: bytes) -> bytes:
    """The joined `data:` lines of an event; comments and other fields mean nothing here."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    return b"\n".join(line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:"))
