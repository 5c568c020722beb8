"""The scripts, typed: each method is one atomic call. Nothing here decides; scripts/*.lua do.

A lost connection leaves open whether a script ran. That is safe for each of them: an admission nobody knows
of is reaped with zero counts, and the others are idempotent by the request's id.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
import structlog

from headrace_contracts import channels
from headrace_contracts.usage import TokenCounts
from headrace_gateway.errors import (
    LimitsRebuilding,
    LimitsUnavailable,
)
from headrace_gateway.keys.directory import Versioned
from headrace_gateway.limits.idempotency import ANSWER_BOUNDS, CLAIMED_SECONDS, AnswerBounds, Claim, Outcome
from headrace_gateway.limits.keys import KEYS_OF_SCRIPTS
from headrace_gateway.limits.slots import Entry, report, standing_of
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.limits.turns import Standing
from headrace_gateway.limits.verdicts import Admitted, Reaped, Short, Stale, admission_of, verdict_of
from headrace_gateway.request_id import random_suffixes
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError, ValkeyRefused
from headrace_gateway.valkey.functions import Function, Library
from headrace_gateway.valkey.wire import Then

# The rest is for what runs already: every admitted request must still be able to append its event.
STREAM_ENTRIES_ADMITTING_MAX = channels.STREAM_ENTRIES_MAX * 8 // 10

REAP_BATCH = 100  # a few milliseconds of Valkey's time at most
# Gateways reap each second; five missed rounds mean that Valkey or all gateways were away.
REAPER_QUIET_MS = 5000

OF_WHAT_RUNS = ("extend", "settle", "heartbeat", "register", "reap", "changed")
"""They go on where Valkey is full: what was admitted is bounded, and what ends gives memory back."""

SCRIPTS = ("admit", *OF_WHAT_RUNS, "waiting")

# Text only: Lua's cmsgpack does not know msgpack's `bin`.
pack = msgspec.msgpack.Encoder().encode

__all__ = ["Admitted", "Limiter", "Pulse", "Renewal", "Short", "Stale", "pack"]

log = structlog.get_logger()

RecordVersion = tuple[str, str]
"""A record's hash key and version."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A heartbeat's reply."""

    warm: bool
    """Open for new requests."""
    loaded: bool
    """Open for what runs already: a while before that."""
    reaped: list[str]
    lost: list[str]
    used_up: list[str]
    """Those with a window that stops what runs, and has nothing left."""
    acknowledged: list[int]


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a heartbeat says of one lease. `hold` may only shrink it; null leaves it."""

    id: str
    counts: bytes
    cost: int
    tokens: TokenCounts
    hold: int | None


class Limiter:
    def __init__(
        self,
        valkey: Valkey,
        *,
        gateway: str,
        lease_ttl_seconds: float,
        answers: AnswerBounds = ANSWER_BOUNDS,
    ) -> None:
        self.valkey = valkey
        self._answers = answers
        self.gateway = gateway
        self._ttl_ms = round(lease_ttl_seconds * 1000)
        self._random_suffixes = random_suffixes()
        self._numbers = itertools.count(1)
        scripts = _library()
        self._admit = scripts["admit"]
        self._extend = scripts["extend"]
        self._settle = scripts["settle"]
        self._heartbeat = scripts["heartbeat"]
        self._register = scripts["register"]
        self._reap = scripts["reap"]
        self._changed = scripts["changed"]
        self._waiting = scripts["waiting"]

    async def admit(
        self,
        records: Sequence[Versioned[Any]],
        limits: Sequence[CheckedLimit],
        *,
        hold: int,
        fragment: bytes,
        orphaned: Callable[[Admitted], None],
        claim: Claim | None = None,
    ) -> Admitted | Stale | Short:
        """`orphaned` gets what was admitted after the caller was cancelled.

        Raises what refuses the request for another reason than money, `DeploymentFull` or `AlreadyAnswered`; nothing is
        held then.
        """
        order = pack(
            (
                self.gateway,
                self._ttl_ms,
                next(self._random_suffixes),
                STREAM_ENTRIES_ADMITTING_MAX,
                [(record.hash_key, record.version) for record in records],
                hold,
            )
        )
        claimed = () if claim is None else (pack((claim.place, claim.request, CLAIMED_SECONDS * 1000)),)
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def then(reply: Any) -> None:
            if answer.cancelled():
                _hand_over(reply, orphaned)
            elif isinstance(reply, ValkeyError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        try:
            self._admit.send(self.valkey, then, order, pack(limits), fragment, *claimed)
            reply = await answer
        except asyncio.CancelledError:
            if not answer.cancelled():
                # It was answered, and the caller cancelled before it came to know.
                _hand_over(answer.exception() or answer.result(), orphaned)
            raise
        except ValkeyError as error:
            raise _unavailable(error) from error
        if reply[0] == b"cold":
            raise LimitsRebuilding("Limits are being rebuilt.")
        return verdict_of(reply, records, limits)

    async def extend(
        self, request_id: str, records: Sequence[Versioned[Any]], limits: Sequence[CheckedLimit], *, hold: int
    ) -> bool | Stale | Short | Reaped:
        """False: the lease is gone. Raises `LimitsRebuilding` or `LimitsUnavailable`."""
        versions = [(record.hash_key, record.version) for record in records]
        reply = await self._ask(self._extend, request_id, pack((versions, hold, next(self._numbers))))
        if reply[0] == b"extended":
            return True
        if reply[0] == b"gone":
            return False
        if reply[0] == b"reaped":
            return Reaped()
        verdict = verdict_of(reply, records, limits)
        assert not isinstance(verdict, Admitted)
        return verdict

    def settle(
        self,
        request_id: str,
        *,
        cost: int,
        tokens: TokenCounts,
        event: bytes,
        then: Then,
        outcome: Outcome | None = None,
    ) -> None:
        """1 if the lease still stood, else 0; the event is in the stream either way. For `Settler` alone.

        `event`: empty where billing is known to have it.
        """
        kept = () if outcome is None else outcome.arguments(self._answers)
        self._settle.send(
            self.valkey, then, request_id.encode(), b"%d" % cost, _by_class(tokens).encode(), event, *kept
        )

    async def heartbeat(self, renewals: Sequence[Renewal], journals: Sequence[str]) -> Pulse:
        """Raises `ValkeyError`."""
        leases = [
            (
                lease.id,
                lease.counts.decode(),
                lease.cost,
                _by_class(lease.tokens),
                -1 if lease.hold is None else lease.hold,
            )
            for lease in renewals
        ]
        order = pack((self.gateway, self._ttl_ms, leases, journals, next(self._numbers)))
        epoch, reaped, lost, acknowledged, loaded, used_up = await self._heartbeat.run(self.valkey, order)
        return Pulse(
            warm=bool(epoch),
            loaded=bool(loaded),
            reaped=[request_id.decode() for request_id in reaped],
            lost=[request_id.decode() for request_id in lost],
            used_up=[request_id.decode() for request_id in used_up],
            acknowledged=[int(sequence) for sequence in acknowledged],
        )

    async def register(
        self,
        renewal: Renewal,
        limits: Sequence[CheckedLimit],
        *,
        hold: int,
        fragment: bytes,
        admitted_at_us: int,
    ) -> bool:
        """Whether the lease stands again; not before Valkey is loaded. Raises `ValkeyError`."""
        tokens, at_ms = _by_class(renewal.tokens), admitted_at_us // 1000
        order = pack((self.gateway, self._ttl_ms, hold, renewal.cost, tokens, at_ms))
        return bool(
            await self._register.run(self.valkey, renewal.id, order, pack(limits), fragment, renewal.counts)
        )

    async def changed(self, versions: Sequence[RecordVersion]) -> set[RecordVersion]:
        """Those that no longer stand. Raises `ValkeyError`."""
        found = await self._changed.run(self.valkey, pack(versions))
        return {versions[index - 1] for index in found}

    async def waiting(self, deployment: str, entries: Sequence[Entry]) -> Standing:
        """Says who waits here for its slots, and tells how they stand. Raises `ValkeyError`."""
        return standing_of(await self._waiting.run(self.valkey, *report(deployment, self.gateway, entries)))

    async def reap(self) -> list[str]:
        """Takes the leases nobody renewed. Raises `ValkeyError`."""
        taken = await self._reap.run(self.valkey, REAP_BATCH, REAPER_QUIET_MS, self._ttl_ms)
        return [request_id.decode() for request_id in taken]

    async def _ask(self, script: Function, *arguments: str | bytes | int) -> Any:
        try:
            reply = await script.run(self.valkey, *arguments)
        except ValkeyError as error:
            raise _unavailable(error) from error
        if reply[0] == b"cold":
            raise LimitsRebuilding("Limits are being rebuilt.")
        return reply


def _library() -> Library:
    """The scripts, each with the time and an empty memory at its beginning."""
    folder = files("headrace_gateway.limits") / "scripts"
    keys = "".join(f"local {name} = '{key}'\n" for name, key in KEYS_OF_SCRIPTS.items())
    bodies = {name: f"begin()\n{(folder / f'{name}.lua').read_text()}" for name in SCRIPTS}
    beginning = keys + (folder / "prelude.lua").read_text()
    return Library("limits", bodies, beginning=beginning, even_when_full=OF_WHAT_RUNS)


def _unavailable(error: ValkeyError) -> LimitsUnavailable:
    if isinstance(error, ValkeyRefused):
        log.error("script_refused", error=str(error))
    return LimitsUnavailable("Limits can't be checked at the moment.")


def _hand_over(reply: Any, orphaned: Callable[[Admitted], None]) -> None:
    if not isinstance(reply, BaseException) and reply[0] == b"admitted":
        orphaned(admission_of(reply, ()))


def _by_class(tokens: TokenCounts) -> str:
    """As scripts/prelude.lua reads them."""
    return f"{tokens.input_uncached + tokens.cache_write} {tokens.cache_read} {tokens.output}"
