"""One admitted request: what it may still use, what it used so far, and its one settlement."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from headrace_contracts.usage import Ending, TokenCounts, attempt_id
from headrace_gateway.call import KeptAnswer
from headrace_gateway.errors import LimitsRebuilding, LimitsUnavailable
from headrace_gateway.keys.authorisation import KEY_ENDED
from headrace_gateway.keys.directory import Versioned
from headrace_gateway.limits import pricing
from headrace_gateway.limits.idempotency import Claim, outcome_of
from headrace_gateway.limits.limiter import Admitted, Renewal, Short, Stale
from headrace_gateway.limits.plan import guards_money
from headrace_gateway.limits.pricing import UnitPrices
from headrace_gateway.limits.request_ids import ClaimedId
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.limits.verdicts import Reaped
from headrace_gateway.metering.confirmation import confirmed
from headrace_gateway.metering.counts import NONE, read_counts
from headrace_gateway.metering.events import counts_fragment, final_event, identity_fragment
from headrace_gateway.metering.inflight import USAGE_BYTES_MAX
from headrace_gateway.metering.watch import key_expired
from headrace_gateway.metrics.requests import Doubt, Series

if TYPE_CHECKING:
    from headrace_gateway.metering.admission import GatewayMeter

log = structlog.get_logger()

# Rounds of one extension: the records changed, or others took the money between two calls.
EXTEND_ROUNDS_MAX = 4
STAND_STILL_RETRY_SECONDS = 0.25

NOT_SERVED = frozenset((Ending.UPSTREAM_FAILED, Ending.GATEWAY_LOST, Ending.TIMED_OUT))
"""Endings after which a client rightly tries again, under the same id of its own."""

_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(tuple[bytes, tuple[int, int, int, int]]).decode
_decode_claim = msgspec.msgpack.Decoder(Claim | ClaimedId).decode
_encode_usage = msgspec.json.Encoder().encode


class Terms(msgspec.Struct, frozen=True):
    """Under what a request was admitted."""

    prices: UnitPrices
    limits: Sequence[CheckedLimit]
    records: Sequence[Versioned[Any]]
    """Those whose change may end it: its key and its project."""
    prompt_tokens_max: int
    choices: int
    output_tokens_max: int | None
    """A choice."""
    revision: str
    series: Series
    """Where it is counted for the metrics."""
    claim: Claim | None = None
    claimed: ClaimedId | None = None
    """Of the client's own id of the request, where it gave one."""


class RunningLease:
    """Implements `call.Lease`."""

    def __init__(
        self,
        meter: "GatewayMeter",
        admitted: Admitted,
        terms: Terms,
        *,
        slot: int,
        fixed: bytes,
        output_tokens_granted: int,
    ) -> None:
        self.id = admitted.id
        self.output_tokens_max = terms.output_tokens_max
        self.output_tokens_granted = self._held_for = output_tokens_granted
        self.revoked = asyncio.Event()
        self.identity = identity_fragment(admitted.id, admitted.time_us, fixed)
        self.limits = terms.limits
        self.limit_states = admitted.states
        self.slot = slot
        self._meter = meter
        self._terms = terms
        self.records = terms.records
        self.admitted_at_us = admitted.time_us
        self._started_ns = time.monotonic_ns()
        self._first_token_at_us = 0
        self._attempts = 0
        self.tokens = NONE
        self._usage = self._usage_before = b""
        self._doubts: set[Doubt] = set()
        self._counted: tuple[bytes, TokenCounts | None] = (b"", None)
        self._trusted_tokens = 0
        self._extending = False
        self._stopped = False
        self._settled = False
        claim = encode_claim(terms.claim or terms.claimed)
        meter.table.open(slot, encode_head(self.identity, terms.prices), claim)
        terms.series.begun()

    @property
    def first_token_us(self) -> int | None:
        return self._first_token_at_us - self.admitted_at_us if self._first_token_at_us else None

    def end(self) -> None:
        """Its key has ended: a stream's next token ends it cleanly, and whatever waits for longer is interrupted."""
        self.output_tokens_granted = 0
        self.revoked.set()

    def stop(self) -> None:
        """Its plan's window is used up: a stream's next token ends it cleanly."""
        self.output_tokens_granted = 0
        self._stopped = True

    def expired(self, now_us: int) -> bool:
        """Whether its key has."""
        return key_expired(self.records, now_us)

    def attempt(self) -> str:
        assert not self._settled, self.id
        self._attempts += 1
        self._note()
        return attempt_id(self.id, self._attempts)

    def relayed(self, usage: bytes, *, output_tokens: int, first: bool = False) -> None:  # noqa: ARG002 - see call.py
        if self._settled:
            return  # the slot is another request's now
        if first and not self._first_token_at_us:
            self._first_token_at_us = self._now_us()
        self._usage_before, self._usage = self._usage, usage
        self._note()

    async def extend(self, *, output_tokens: int) -> bool:
        if output_tokens <= self.output_tokens_granted:
            return True
        if self._stopped or self.revoked.is_set() or self._settled:
            return False
        self._extending = True
        try:
            return await self._extend(output_tokens)
        finally:
            self._extending = False

    def settle(
        self, ending: Ending, *, usage: bytes | None = None, answer: tuple[str, bytes] | None = None
    ) -> Awaitable[None]:
        if self._settled:
            return confirmed()
        self._settled = True
        if usage is not None:
            counted = read_counts(usage)
            if counted is None:
                self._doubt(Doubt.INVALID)
            else:
                self._usage, self._counted = usage, (usage, counted)
                self._note()  # for whoever settles it if this process does not come to
        counted = self._count()
        self.tokens = tokens = counted or NONE
        if counted is None and ending is Ending.COMPLETED:
            self._doubt(Doubt.MISSING)
        # A template may be longer than the catalogue has it, so this may be true: it is charged, and somebody looks.
        if tokens.input > self._terms.prompt_tokens_max:
            self._doubt(Doubt.BEYOND_BOUND)
        finished_at_us = self._now_us()
        self._terms.series.settled(
            ending,
            tokens,
            attempts=self._attempts,
            duration_us=finished_at_us - self.admitted_at_us,
            first_token_us=self.first_token_us,
        )
        fragment = self._counts_fragment()

        def build(sequence: int) -> bytes:
            return final_event(
                identity=self.identity,
                counts=fragment,
                journal=self._meter.journal.fragment,
                sequence=sequence,
                finished_at_us=finished_at_us,
                ending=ending,
            )

        cost = pricing.cost_micros(self._terms.prices, tokens)
        if self._terms.claimed is not None and ending in NOT_SERVED:
            self._meter.request_ids.give_back(self._terms.claimed)
        outcome = None
        if self._terms.claim is not None:
            kept = KeptAnswer(id=self.id, ending=ending, tokens=tokens, revision=self._terms.revision)
            outcome = outcome_of(self._terms.claim, kept, answer)
        return self._meter.finish(self, build, ending=ending, cost=cost, tokens=tokens, outcome=outcome)

    def renewal(self) -> Renewal:
        """What the heartbeat says of it."""
        counted = self._count()
        tokens = counted or NONE
        # While an extension is under way its outcome is unknown, and a hold must not fall below it.
        shrinks = counted is not None and not self._extending
        return Renewal(
            id=self.id,
            counts=self._counts_fragment(),
            cost=pricing.cost_micros(self._terms.prices, tokens),
            tokens=tokens,
            hold=self.hold() if shrinks else None,
        )

    def hold(self) -> int:
        """What the tokens granted so far cost at most."""
        return self._hold_for(self._held_for)

    async def _extend(self, output_tokens: int) -> bool:
        terms, limiter = self._terms, self._meter.limiter
        goal = max(output_tokens, self._held_for + self._meter.settings.slice_tokens * terms.choices)
        if terms.output_tokens_max is not None:
            goal = max(output_tokens, min(goal, terms.output_tokens_max * terms.choices))
        rounds, until = 0, time.monotonic() + self._meter.settings.stand_still_seconds
        while rounds < EXTEND_ROUNDS_MAX:
            try:
                verdict = await limiter.extend(self.id, self.records, self.limits, hold=self._hold_for(goal))
            except (LimitsRebuilding, LimitsUnavailable):
                verdict = False
            if verdict is False:
                # Valkey is away, or lost the lease with its memory: then the next heartbeat puts it back.
                if not guards_money(self.limits):
                    return self._grant_on_trust(goal)
                if time.monotonic() >= until:
                    return False
                await asyncio.sleep(STAND_STILL_RETRY_SECONDS)
                continue
            rounds += 1
            if isinstance(verdict, Stale):
                if not await self._still_authorised(verdict):
                    return False
            elif isinstance(verdict, Short):
                payable = pricing.output_tokens_payable(
                    terms.prices, input_value=self._input_value(), micros=verdict.room
                )
                if payable is not None and payable < output_tokens:
                    return False
                goal = goal if payable is None else min(goal, payable)
            elif isinstance(verdict, Reaped):
                self.revoked.set()
                return False
            else:
                self._grant(goal)
                return True
        return False

    def _grant(self, goal: int) -> None:
        self.output_tokens_granted = self._held_for = goal

    def _grant_on_trust(self, goal: int) -> bool:
        trusted = self._trusted_tokens + goal - self._held_for
        if trusted > self._meter.settings.trust_tokens:
            return False
        self._trusted_tokens = trusted
        self._grant(goal)
        return True

    async def _still_authorised(self, stale: Stale) -> bool:
        try:
            self.records = await self._meter.reauthorise(self.records, stale=[stale.hash_key])
        except KEY_ENDED:
            self.revoked.set()
            return False
        except (LimitsRebuilding, LimitsUnavailable):
            return True  # the next round finds out
        return True

    def _hold_for(self, output_tokens: int) -> int:
        return pricing.micros(self._input_value() + output_tokens * self._terms.prices.output)

    def _input_value(self) -> int:
        counted = self._count()
        if counted is None:
            return self._terms.prompt_tokens_max * self._terms.prices.input_max
        return pricing.input_value(self._terms.prices, counted)

    def _count(self) -> TokenCounts | None:
        """The newest usage that is one, parsed only when somebody asks."""
        if self._counted[0] is not self._usage:
            counted = read_counts(self._usage)
            if counted is None and self._usage:
                self._doubt(Doubt.INVALID)
                before = read_counts(self._usage_before)
                if before is not None:
                    self._counted = (self._usage_before, before)
                self._usage = self._counted[0]
            else:
                self._counted = (self._usage, counted)
        return self._counted[1]

    def _doubt(self, doubt: Doubt) -> None:
        if doubt not in self._doubts:
            self._doubts.add(doubt)
            self._terms.series.doubted(doubt)
            log.error(f"usage_{doubt.value}", request=self.id, deployment=self._terms.series.deployment)

    def _counts_fragment(self) -> bytes:
        counted = self._count()
        return fragment_of(
            self._usage, counted, first_token_at_us=self._first_token_at_us or None, attempts=self._attempts
        )

    def _note(self) -> None:
        usage = self._usage
        if len(usage) > USAGE_BYTES_MAX:
            usage = _shortened(self._count())
        self._meter.table.note(
            self.slot, usage, first_token_at_us=self._first_token_at_us, attempts=self._attempts
        )

    def _now_us(self) -> int:
        """Valkey's time at admission and our clock's distance from it: no two machines' clocks are compared."""
        return self.admitted_at_us + (time.monotonic_ns() - self._started_ns) // 1000


def encode_head(identity: bytes, prices: UnitPrices) -> bytes:
    """What a successor needs to settle the request."""
    units = (prices.input_uncached, prices.cache_read, prices.cache_write, prices.output)
    return _encode_head((identity, units))


def decode_head(head: bytes) -> tuple[bytes, UnitPrices]:
    identity, units = _decode_head(head)
    return identity, UnitPrices(*units)


def encode_claim(claim: Claim | ClaimedId | None) -> bytes:
    """What a successor needs to keep the outcome for whoever repeats the request, or to give its id back."""
    if claim is None:
        return b""
    return _encode_head(claim)


def decode_claim(claim: bytes) -> Claim | ClaimedId | None:
    return _decode_claim(claim) if claim else None


def fragment_of(
    usage: bytes, counted: TokenCounts | None, *, first_token_at_us: int | None, attempts: int
) -> bytes:
    if counted is None:
        engine_usage = None
    elif len(usage) > USAGE_BYTES_MAX or not usage.isascii():
        engine_usage = _shortened(counted)  # what stands in an event must be sure to be JSON
    else:
        engine_usage = usage
    return counts_fragment(
        attempts=attempts,
        first_token_at_us=first_token_at_us,
        tokens=counted or NONE,
        engine_usage=engine_usage,
    )


def _shortened(counted: TokenCounts | None) -> bytes:
    """The parts of a usage object that count, for an engine that says a great deal more."""
    if counted is None:
        return b""
    return _encode_usage(
        {
            "prompt_tokens": counted.input,
            "completion_tokens": counted.output,
            "prompt_tokens_details": {"cached_tokens": counted.cache_read},
            "completion_tokens_details": {"reasoning_tokens": counted.reasoning},
        }
    )
