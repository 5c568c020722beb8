"""Counting what the engine yields for one upstream attempt, that is for one HTTP request.

A request may ask the engine several things, one after another or at once (several prompts, beams): each is a
part, and the attempt's record sums them. Invariants: nothing is counted before it was handed on, a record says
`started` once the engine is asked, and tells its end exactly once, when the HTTP request and all its parts ended.
"""

import re
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from headrace_contracts.engine import EngineEnding, EngineRecord

# The gateway's `<request id>.<n>`; anything else is a stranger's id, which may come twice.
ATTEMPT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9]{1,4}", re.ASCII)

# A header may be many kilobytes long, and the engine's id is made from it.
PROBE_NAME_CHARACTERS_MAX = 100

# Of several parts, the worst end is the attempt's.
_SEVERITY = (EngineEnding.FINISHED, EngineEnding.ABORTED, EngineEnding.FAILED)


def microseconds() -> int:
    return time.time_ns() // 1000


def gateway_attempt(request_id: str | None) -> str | None:
    """The attempt that the gateway's `X-Request-Id` names; None when no gateway sent it."""
    return request_id if request_id is not None and ATTEMPT.fullmatch(request_id) else None


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of all the parts of an attempt."""

    prompt: int
    cached: int
    output: int


class Attempt:
    """One HTTP request on its way through the engine."""

    def __init__(self, recorder: "Recorder", name: str | None) -> None:
        self._recorder = recorder
        self._name = name
        self.probe = name is None
        """Whether it is none of the gateway's."""
        self._parts: list[Part] = []
        self._open = 1
        """Who may still add to the counts: the HTTP request itself, and each part."""
        self._started_at_us: int | None = None

    def part(self, engine_id: str, *, prompt_tokens: int, stop: Callable[[], object] | None = None) -> "Part":
        """The engine is asked for something. `prompt_tokens` is what it is given to read.

        `stop` makes it end early.
        """
        if self._name is None:
            # The engine's id comes from a header that a stranger may send twice.
            self._name = f"{engine_id[:PROBE_NAME_CHARACTERS_MAX]}-{secrets.token_hex(4)}"
        part = Part(self, stop)
        self._parts.append(part)
        self._open += 1
        if self._started_at_us is None:
            self._started_at_us = self._recorder.clock()
            self._record(EngineEnding.STARTED, prompt=prompt_tokens)
        return part

    @property
    def cached(self) -> int | None:
        """Cached prompt tokens so far; None while nothing was yielded, or where several prompts are read."""
        read = [part for part in self._parts if part.prompt]
        return read[0].cached if len(read) == len(self._parts) == 1 else None

    @property
    def counts(self) -> Counts:
        """What was yielded so far."""
        return Counts(
            prompt=sum(part.prompt for part in self._parts),
            cached=sum(part.cached for part in self._parts),
            output=sum(sum(part.outputs.values()) for part in self._parts),
        )

    def abandon(self) -> None:
        """Nobody waits for the reply any more: what still runs for it is stopped."""
        for part in self._parts:
            if part.ending is EngineEnding.STARTED and part.stop is not None:
                part.stop()

    def close(self) -> None:
        """The HTTP request ended, or one part of it."""
        assert self._open > 0, f"attempt {self._name} was closed twice"
        self._open -= 1
        if self._open == 0 and self._parts:
            worst = max((part.ending for part in self._parts), key=_SEVERITY.index)
            counts = self.counts
            self._record(
                worst,
                prompt=counts.prompt,
                cached=counts.cached,
                output=counts.output,
                finished_at_us=self._recorder.clock(),
            )

    def _record(
        self,
        ending: EngineEnding,
        *,
        prompt: int,
        cached: int = 0,
        output: int = 0,
        finished_at_us: int | None = None,
    ) -> None:
        assert self._name is not None
        assert self._started_at_us is not None
        self._recorder.keep(
            EngineRecord(
                replica=self._recorder.replica,
                attempt=self._name,
                deployment=self._recorder.deployment,
                model=self._recorder.model,
                ending=ending,
                prompt=prompt,
                cached=cached,
                output=output,
                started_at_us=self._started_at_us,
                finished_at_us=finished_at_us,
                probe=self.probe,
            )
        )


class Part:
    """One thing asked of the engine."""

    def __init__(self, attempt: Attempt, stop: Callable[[], object] | None) -> None:
        self._attempt = attempt
        self.stop = stop
        self.prompt = 0
        """Stays 0 until something is yielded: a request that was turned away, or hung up before, got nothing."""
        self.cached = 0
        self.outputs: dict[int, int] = {}
        """Tokens by choice."""
        self.ending = EngineEnding.STARTED
        self.told = EngineEnding.FINISHED
        """How it will have ended, as far as is known while it runs."""

    def read(self, *, prompt: int, cached: int) -> None:
        """Something is about to be yielded for this prompt."""
        self.prompt = prompt
        self.cached = cached

    def yielded(self, choice: int, tokens: int, *, cumulative: bool) -> None:
        """`tokens` are the choice's new ones or, `cumulative`, all that it has so far."""
        before = 0 if cumulative else self.outputs.get(choice, 0)
        self.outputs[choice] = before + tokens

    def end(self, ending: EngineEnding) -> None:
        assert self.ending is EngineEnding.STARTED, "a part of an attempt ended twice"
        self.ending = ending
        self._attempt.close()


class Recorder:
    """Makes attempts, and hands their records to `keep`."""

    def __init__(
        self,
        keep: Callable[[EngineRecord], None],
        *,
        replica: str,
        deployment: str,
        model: str,
        clock: Callable[[], int] = microseconds,
    ) -> None:
        self.keep = keep
        self.replica = replica
        self.deployment = deployment
        self.model = model
        self.clock = clock

    def attempt(self, request_id: str | None) -> Attempt:
        return Attempt(self, gateway_attempt(request_id))


# The attempt that the running task works for. Tasks inherit it, so it reaches the engine through whatever the
# server app does between.
current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
