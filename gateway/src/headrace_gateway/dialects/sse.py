"""Server-sent events, as far as engines use them: `data:` lines, comments, blank lines between events."""

from codecs import BOM_UTF8

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
    """Cuts a byte stream, however it is split, into the payloads of its events.

    Lines end as the specification has it: with a line feed, a carriage return, or both; a byte order mark may come first.
    """

    __slots__ = ("_after_return", "_begun", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        """Of an event that is not whole yet."""
        self._begun = False
        self._after_return = False
        """A carriage return came last: with a line feed after it, it is one line end."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads of the events that are whole now."""
        return [payload for block in self.blocks(piece) if (payload := payload_of(block))]

    def blocks(self, piece: bytes) -> list[bytes]:
        """The events that are whole now, as they stood on the wire, without the blank line after each."""
        if not self._begun:
            piece = self._beginning(piece)
        if self._after_return or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        rest = self._rest
        if rest:
            # Only what is new is looked at: a large event comes in thousands of pieces.
            unseen = len(rest) - 1
            rest += piece
            if rest.find(b"\n\n", unseen) < 0:
                if len(rest) > EVENT_BYTES_MAX:
                    raise EventTooLarge
                return []
            piece = bytes(rest)
            rest.clear()
        blocks = piece.split(b"\n\n")
        if last := blocks.pop():
            rest += last
            if len(last) > EVENT_BYTES_MAX:
                raise EventTooLarge
        return blocks

    def _beginning(self, piece: bytes) -> bytes:
        piece = bytes(self._rest) + piece
        self._rest.clear()
        if len(piece) < len(BOM_UTF8) and BOM_UTF8.startswith(piece):
            self._rest += piece
            return b""
        self._begun = True
        return piece.removeprefix(BOM_UTF8)

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if not piece:
            return piece
        ended = piece.endswith(b"\r")
        if self._after_return:
            piece = piece.removeprefix(b"\n")
        self._after_return = ended
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def payload_of(block: bytes) -> bytes:
    """The joined `data:` lines of an event; comments and other fields mean nothing here."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    return b"\n".join(line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:"))
