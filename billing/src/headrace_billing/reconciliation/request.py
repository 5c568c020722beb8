"""One request: what the engine yielded against what was billed, token by token.

For input and output apart: yielded = billed + named differences. A difference that no name explains is red, and so is
anything billed beyond what was yielded. What is only a matter of waiting is pending. Of an engine that is declared to
tell nothing there is no other side: that is said, and holds up nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from headrace_contracts.engine import EngineEnding
from headrace_contracts.usage import Ending, Grade


class Difference(StrEnum):
    """Why the engine yielded what nobody is billed for."""

    AFTER_HANGUP = "after_hangup"  # generated after the caller was gone, or after we broke the attempt off
    AFTER_BUDGET = "after_budget"  # generated past the last granted slice
    WITHHELD = "withheld"  # generated, but refused by a guardrail
    ESTIMATE_GAP = "estimate_gap"  # generated after the last count of a gateway that died
    ABANDONED_ATTEMPT = "abandoned_attempt"  # an attempt that another one replaced
    PROBE = "probe"  # a request that no gateway sent
    ENGINE_LOST = "engine_lost"  # the replica died before it could say what it yielded; may be below zero
    DECLARED_LOST = "declared_lost"  # an engine request without an event, declared uncharged by two people


class Status(StrEnum):
    GREEN = "green"
    UNWITNESSED = "unwitnessed"  # no engine record to compare with, nor will there be one
    PENDING = "pending"  # explained by a record that is still allowed to be on its way
    RED = "red"


class Reason(StrEnum):
    """Why a request or the books are not green."""

    OVERBILLED = "overbilled"
    UNEXPLAINED = "unexplained"
    ENGINE_RECORD_MISSING = "engine_record_missing"
    LOST = "lost"
    DOUBLED = "doubled"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    BOOKS_DIFFER = "books_differ"
    PAYMENT_DIFFERS = "payment_differs"
    SEQUENCE_GAP = "sequence_gap"
    AWAITING_ENGINE_RECORD = "awaiting_engine_record"
    AWAITING_FINAL_EVENT = "awaiting_final_event"
    AWAITING_SEQUENCE = "awaiting_sequence"


@dataclass(frozen=True, slots=True)
class Graces:
    """How long a side may be behind before its absence means something."""

    engine_record: timedelta = timedelta(seconds=60)
    """From a request's end to its engine record: the replica ships its spool every second or so, with retries."""
    final_event: timedelta = timedelta(seconds=60)
    """From an estimate to the final event of a gateway that came back."""
    event: timedelta = timedelta(minutes=2)
    """From the end of an engine request to its event: the journal sends again after 10 s what was not acknowledged."""
    sequence_gap: timedelta = timedelta(hours=1)
    """From a gap in an outside meter's numbers being seen to its being closed: batches overtake each other."""
    running: timedelta = timedelta(hours=2)
    """For an engine request of which only the start is known; longer than any request may take."""


@dataclass(frozen=True, slots=True)
class Tokens:
    input: int
    output: int

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input + other.input, self.output + other.output)

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input - other.input, self.output - other.output)

    def __bool__(self) -> bool:
        return self != NO_TOKENS

    @property
    def total(self) -> int:
        return self.input + self.output


NO_TOKENS = Tokens(0, 0)


@dataclass(frozen=True, slots=True)
class Yielded:
    """An engine record of one attempt."""

    replica: str
    attempt: int
    ending: EngineEnding
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Billed:
    """The usage event that counts for a request: the final one, or the estimate where there is none."""

    request_id: str
    grade: Grade
    ending: Ending
    attempts: int
    tokens: Tokens
    finished_at: datetime
    witnessed: bool = True
    """Whether the engine was one that says what it yielded."""


@dataclass(frozen=True, slots=True)
class Comparison:
    billed: Billed
    yielded: Tokens
    differences: Mapping[Difference, Tokens] = field(default_factory=dict)
    status: Status = Status.GREEN
    reason: Reason | None = None

    @property
    def unwitnessed(self) -> Tokens:
        """Billed without anything to hold it against."""
        return self.billed.tokens if self.status is Status.UNWITNESSED else NO_TOKENS

    @property
    def unexplained(self) -> Tokens:
        """Zero for every green request."""
        return self.yielded + self.unwitnessed - self.billed.tokens - total(self.differences)


def compare(billed: Billed, records: Sequence[Yielded], *, now: datetime, graces: Graces) -> Comparison:
    yielded = sum((record.tokens for record in records), NO_TOKENS)
    last = relayed(billed, records)
    if last is None or last.ending is EngineEnding.STARTED:
        return _without_end(billed, records, last, yielded, now=now, graces=graces)

    abandoned = sum((record.tokens for record in records if record is not last), NO_TOKENS)
    gap = last.tokens - billed.tokens
    differences = {Difference.ABANDONED_ATTEMPT: abandoned} if abandoned else {}
    if gap.input < 0 or gap.output < 0:
        return Comparison(billed, yielded, differences, Status.RED, Reason.OVERBILLED)
    if gap:
        name = name_of_gap(billed)
        if name is None:
            return Comparison(billed, yielded, differences, Status.RED, Reason.UNEXPLAINED)
        differences[name] = gap
    if billed.grade is Grade.ESTIMATED and now < billed.finished_at + graces.final_event:
        return Comparison(billed, yielded, differences, Status.PENDING, Reason.AWAITING_FINAL_EVENT)
    return Comparison(billed, yielded, differences)


def relayed(billed: Billed, records: Sequence[Yielded]) -> Yielded | None:
    """The record of the attempt that the client was answered from: the last one, as far as its engine got.

    The engine may have taken one attempt twice, when Ray Serve moved it to another replica.
    """
    last = [record for record in records if record.attempt == billed.attempts]
    return max(
        last,
        key=lambda record: (record.ending is not EngineEnding.STARTED, record.tokens.output, record.replica),
        default=None,
    )


def name_of_gap(billed: Billed) -> Difference | None:
    """By how the request ended; a request that went to its end has no excuse."""
    if billed.grade is Grade.ESTIMATED:
        return Difference.ESTIMATE_GAP
    match billed.ending:
        case Ending.GATEWAY_LOST:
            return Difference.ESTIMATE_GAP
        case Ending.BUDGET_STOPPED:
            return Difference.AFTER_BUDGET
        case Ending.WITHHELD:
            return Difference.WITHHELD
        case Ending.CLIENT_GONE | Ending.UPSTREAM_FAILED | Ending.TIMED_OUT:
            return Difference.AFTER_HANGUP
        case Ending.COMPLETED:
            return None


def _without_end(
    billed: Billed,
    records: Sequence[Yielded],
    last: Yielded | None,
    yielded: Tokens,
    *,
    now: datetime,
    graces: Graces,
) -> Comparison:
    """The engine has not said how the relayed attempt ended."""
    if last is None and not (billed.tokens and billed.witnessed):
        # It never reached an engine, or one that tells nothing; attempts before it are ours to pay.
        differences = {Difference.ABANDONED_ATTEMPT: yielded} if yielded else {}
        status = Status.UNWITNESSED if billed.tokens else Status.GREEN
        return Comparison(billed, yielded, differences, status)
    if now < billed.finished_at + graces.engine_record:
        return Comparison(billed, yielded, {}, Status.PENDING, Reason.AWAITING_ENGINE_RECORD)
    if last is None:
        return Comparison(billed, yielded, {}, Status.RED, Reason.ENGINE_RECORD_MISSING)
    abandoned = sum((record.tokens for record in records if record is not last), NO_TOKENS)
    lost = last.tokens - billed.tokens
    named = {Difference.ABANDONED_ATTEMPT: abandoned, Difference.ENGINE_LOST: lost}
    return Comparison(billed, yielded, {name: tokens for name, tokens in named.items() if tokens})


def total(differences: Mapping[Difference, Tokens]) -> Tokens:
    return sum(differences.values(), NO_TOKENS)
