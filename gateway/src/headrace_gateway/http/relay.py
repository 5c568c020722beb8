"""Relaying a stream: bytes as they come, never past what is granted, and never unaccounted.

What must stay true: counts are noted after the bytes they stand for were handed to the client; tokens past the
grant are not handed over; the last event waits for the settlement, so it is returned and not sent.

What is as usual, nearly every token, is handed on in the call that brought it; for what has to be waited for, or ends
the stream, the request's task goes on from there.
"""

from collections import deque

import structlog

from headrace_contracts.usage import Ending
from headrace_gateway.call import Lease
from headrace_gateway.dialects.dialect import BadChunk, Chunk, Cut, StreamReader
from headrace_gateway.dialects.sse import Events, EventTooLarge
from headrace_gateway.errors import UpstreamFailed
from headrace_gateway.guardrails.guards import AnswerWatch
from headrace_gateway.guardrails.spoken import said_in_events
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.heads import Headers
from headrace_gateway.http.repeats import Recording
from headrace_gateway.http.served import Served
from headrace_gateway.routing.upstream.reply import Reply

log = structlog.get_logger()

LEAVE_SECONDS = 1.0
"""How long an engine may take to end its reply after the stream's last event."""


class StreamRelay:
    def __init__(
        self,
        exchange: Exchange,
        reply: Reply,
        lease: Lease,
        reader: StreamReader,
        *,
        headers: Headers,
        recording: Recording | None = None,
        watch: AnswerWatch | None = None,
    ) -> None:
        """`recording` gets what the client gets, but for the rest that `run` returns; `watch` may end the stream."""
        self._exchange = exchange
        self._reply = reply
        self._lease = lease
        self._headers = headers
        self._recording = recording
        self._watch = watch
        self._events = Events()
        self._reader = reader
        self._blocks: deque[bytes | Chunk] = deque()
        """What came and was not dealt with: events, the first of them perhaps read already."""
        self._waiting: list[Chunk] = []
        """For the client, or for the accounts when it has them."""
        self._unaccounted = False
        self._fault: Exception | None = None
        self._usage: bytes | None = None
        self._first_token_seen = False

    async def run(self) -> Served:
        if not self._reply.content_type.startswith("text/event-stream"):
            raise self._failed(f"content type {self._reply.content_type!r}")
        tap = self._tapped if self._watch is None else None
        while True:
            piece = await self._reply.read(tap)
            at_its_end = not (piece or self._blocks or self._unaccounted)
            if self._unaccounted:
                await self._wait_for_room()
            if self._fault is not None:
                raise self._fault
            if at_its_end:
                raise self._failed("the stream ended before its last event")
            self._cut_up(piece)
            while self._blocks:
                if (served := await self._take(self._blocks.popleft())) is not None:
                    return served
            await self._hand_on()

    def _tapped(self, piece: bytes) -> bool:
        try:
            return self._deal_with(piece)
        except Exception as error:  # noqa: BLE001 - `run` raises it, where it is awaited
            self._fault = error
            return False

    def _deal_with(self, piece: bytes) -> bool:
        """Hands on what is as usual; false where something ends the stream or must be waited for."""
        self._cut_up(piece)
        blocks = self._blocks
        while blocks:
            block = blocks.popleft()
            assert isinstance(block, bytes), "`run` has dealt with what was read"
            try:
                chunk = self._reader.take(block)
            except BadChunk as error:
                self._hand_over()
                raise self._failed(str(error)) from error
            if chunk is None:
                continue
            if chunk.last or chunk.output_tokens > self._lease.output_tokens_granted:
                blocks.appendleft(chunk)
                self._hand_over()
                return False
            self._waiting.append(chunk)
        return self._hand_over()

    def _cut_up(self, piece: bytes) -> None:
        try:
            self._blocks.extend(self._events.blocks(piece))
        except EventTooLarge as error:
            raise self._failed("an event without end") from error

    async def _take(self, block: bytes | Chunk) -> Served | None:
        """Takes in one event; tells how the stream ended if it did."""
        try:
            chunk = self._reader.take(block) if isinstance(block, bytes) else block
        except BadChunk as error:
            await self._hand_on()
            raise self._failed(str(error)) from error
        if chunk is None:
            return None
        if self._watch is not None and await self._watch.refuses(said_in_events(chunk.client_bytes)):
            await self._hand_on()
            return await self._cut(Ending.WITHHELD, Cut.WITHHELD)
        if chunk.last:
            return await self._complete(chunk)
        if chunk.output_tokens > self._lease.output_tokens_granted:
            await self._hand_on()
            if not await self._lease.extend(output_tokens=chunk.output_tokens):
                return await self._cut(Ending.BUDGET_STOPPED, Cut.LENGTH)
        self._waiting.append(chunk)
        return None

    async def _hand_on(self) -> None:
        if not self._hand_over():
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        await self._exchange.room()
        self._account()

    def _hand_over(self) -> bool:
        """Whether what waits was handed over and accounted for; else that waits for the client to read."""
        waiting = self._waiting
        if not waiting:
            return True
        data = (
            waiting[0].client_bytes
            if len(waiting) == 1
            else b"".join([each.client_bytes for each in waiting])
        )
        if data:
            if not self._exchange.answered:
                self._exchange.begin(200, self._headers)
            if self._recording is not None:
                self._recording.add(data)
            if not self._exchange.push(data):
                self._unaccounted = True
                return False
        self._account()
        return True

    def _account(self) -> None:
        chunks, self._waiting, self._unaccounted = self._waiting, [], False
        for chunk in chunks:
            self._reader.handed_on(chunk)
        last = chunks[-1]
        if last.usage is not None:
            self._usage = last.usage
            first = last.output_tokens > 0 and not self._first_token_seen
            self._first_token_seen |= first
            self._lease.relayed(last.usage, output_tokens=last.output_tokens, first=first)
            if first:
                self._reply.gather()

    async def _complete(self, last: Chunk) -> Served:
        await self._hand_on()
        # HTTP's own end often comes a packet later; with it the connection can carry another request.
        self._reply.leave(seconds=LEAVE_SECONDS)
        self._begin_if_empty()
        return Served(Ending.COMPLETED, usage=last.usage, rest=last.client_bytes)

    async def _cut(self, ending: Ending, cut: Cut) -> Served:
        """The money ended, the key was revoked, a guardrail refused: what was relayed stands, the engine is stopped."""
        self._reply.close()
        self._begin_if_empty()
        return Served(ending, rest=self._reader.cut_short(self._usage, cut) + self._reader.end)

    def _begin_if_empty(self) -> None:
        if not self._exchange.answered:
            self._exchange.begin(200, self._headers)

    def _failed(self, why: str) -> UpstreamFailed:
        log.warning("stream_failed", request=self._lease.id, error=why)
        return UpstreamFailed("The model's answer broke off.")
