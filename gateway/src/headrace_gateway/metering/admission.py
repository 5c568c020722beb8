"""Admission and the life of leases: `GatewayMeter` implements `call.Meter`.

What must stay true: nothing is admitted without a slot in the in-flight table and space in the journal; a
refusal gives both back and leaves nothing in Valkey; and what was admitted is settled, if not by its
request then by recovery or the reaper.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Container, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog

from headrace_contracts.access import KeyRecord, KeyScope, ProjectRecord
from headrace_contracts.usage import Ending, TokenCounts
from headrace_gateway.call import Call, Credentials
from headrace_gateway.errors import (
    GatewayError,
    InvalidRequest,
    LimitsUnavailable,
    ModelNotFound,
    Overloaded,
)
from headrace_gateway.keys import authorisation
from headrace_gateway.keys.authorisation import KnownCaller
from headrace_gateway.keys.directory import Directory, Standing, Versioned
from headrace_gateway.limits import plan, pricing
from headrace_gateway.limits.idempotency import Claim, Outcome
from headrace_gateway.limits.limiter import Admitted, Limiter, Short, Stale
from headrace_gateway.limits.pricing import UnitPrices
from headrace_gateway.limits.request_ids import ClaimedId, RequestIds
from headrace_gateway.limits.slots import slots_limit
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.metering.call_records import claim_of, identity_of, prepared_for
from headrace_gateway.metering.confirmation import Confirmations
from headrace_gateway.metering.inflight import HEAD_BYTES_MAX, InflightTable
from headrace_gateway.metering.journal import Journal
from headrace_gateway.metering.lease import RunningLease, Terms
from headrace_gateway.metering.resend import Unacknowledged
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.metering.settlement import Settler
from headrace_gateway.metering.watch import Watch
from headrace_gateway.metrics.requests import Requests

log = structlog.get_logger()

# Rounds of one admission: records changed, or others took the money between two calls.
ADMIT_ROUNDS_MAX = 6

# Beside these go the id, the time and the prices: under 200 bytes; and the claim of an idempotency key or of the client's
# own id: two digests and the project's id.
FIXED_BYTES_MAX = HEAD_BYTES_MAX - 256
CLAIM_BYTES_MAX = 384

POLL_SECONDS = 0.05


class GatewayMeter:
    def __init__(
        self,
        settings: MeterSettings,
        *,
        directory: Directory,
        limiter: Limiter,
        settler: Settler,
        table: InflightTable,
        journal: Journal,
        left_behind: Callable[[], Sequence[Unacknowledged]],
        request_ids: RequestIds,
    ) -> None:
        """`left_behind`: the journals of dead processes that billing does not have in full yet."""
        self.settings = settings
        self.limiter = limiter
        self.settler = settler
        self.table = table
        self.journal = journal
        self.running: dict[str, RunningLease] = {}
        self.watches: set[Watch] = set()
        self.requests = Requests()
        self.not_ready: str | None = "limits_unavailable"
        """The code of what stands in the way of admission as of the last heartbeat; null when nothing does."""
        self.closing = False
        self.rounds: dict[str, float] = {}
        """When each loop's last round went well, by the monotonic clock."""
        self.requests_reaped = 0
        self._directory = directory
        self._confirmations = Confirmations(timeout_seconds=settings.settle_wait_seconds)
        self.left_behind = left_behind
        self.request_ids = request_ids

    async def authenticate(
        self, credentials: Credentials, scope: KeyScope, *, anew: bool = False
    ) -> KnownCaller:
        directory = self._directory
        key, project = directory.known_owner(credentials.key) or await directory.owner(credentials.key)
        if not anew:
            try:
                authorisation.check_caller(key.record, project.record, credentials, scope, now_us=_now_us())
            except GatewayError:
                pass  # the cached record may be older than what allows it
            else:
                return KnownCaller(key.record, project.record, credentials.batched)
        stale = (key.hash_key, project.hash_key)
        key, project = await directory.owner(credentials.key, stale=stale)
        authorisation.check_caller(key.record, project.record, credentials, scope, now_us=_now_us())
        return KnownCaller(key.record, project.record, credentials.batched)

    @asynccontextmanager
    async def watch(self, credentials: Credentials) -> AsyncIterator[Watch]:
        watch = Watch(await self._directory.owner(credentials.key))
        self.watches.add(watch)
        try:
            yield watch
        finally:
            self.watches.discard(watch)

    async def priced_models(self, credentials: Credentials) -> Container[str]:
        known = (await self._directory.standing(credentials.key, None)).prices
        # Read anew, for nothing is admitted here that would tell of a version that is no longer the present one.
        standing = await self._directory.standing(credentials.key, None, stale=[known.hash_key])
        return standing.prices.record.models

    async def admit(self, call: Call) -> RunningLease:
        key = call.credentials.key
        standing = await self._directory.standing(key, call.task)
        try:
            _check(standing, call)
        except GatewayError:
            # A cached record may be older than what allows the call.
            stale = [record.hash_key for record in standing.records]
            standing = await self._directory.standing(key, call.task, stale=stale)
            _check(standing, call)
        if call.once is None or call.idempotency is not None:
            # Who repeats a request with an idempotency key gets the first one's answer.
            return await self._take_in(call, key, standing, None)
        claimed = await self.request_ids.claim(standing.project.record.id, call.once)
        try:
            return await self._take_in(call, key, standing, claimed)
        except BaseException:
            self.request_ids.give_back(claimed)
            raise

    async def _take_in(
        self, call: Call, key: str, standing: Standing, claimed: ClaimedId | None
    ) -> RunningLease:
        if not self.journal.reserve():
            raise Overloaded("There is no space to record another request's usage.")
        slot = self.table.take()
        if slot is None:
            self.journal.give_back()
            raise Overloaded("This gateway runs as many requests as it can.")
        try:
            return await self._admit(call, key, standing, slot, claimed)
        except BaseException:
            # A cancelled one may be admitted all the same: `_orphaned` then takes space of its own.
            self.table.give_back(slot)
            self.journal.give_back()
            raise

    async def reauthorise(
        self, records: Sequence[Versioned[Any]], *, stale: Iterable[str]
    ) -> tuple[Versioned[KeyRecord], Versioned[ProjectRecord]]:
        """The present records of a running request, if its key may still run it; `stale` are read anew (hash keys)."""
        of_request = {record.hash_key for record in records}
        key, project = await self._directory.owner(records[0].hash_key, stale=of_request.intersection(stale))
        authorisation.check_key(key.record, project.record, now_us=_now_us())
        return key, project

    def finish(
        self,
        lease: RunningLease,
        build: Callable[[int], bytes],
        *,
        ending: Ending,
        cost: int,
        tokens: TokenCounts,
        outcome: Outcome | None,
    ) -> asyncio.Future[None]:
        """Journals a lease's final event and settles it; done when both are, but soon in any case.

        Until both are, its slot stands: whoever comes after this process has to do what is missing.
        """
        self.running.pop(lease.id, None)
        event = b""

        def build_once(sequence: int) -> bytes:
            nonlocal event
            event = build(sequence)
            return event

        both = self._confirmations.begin(parts=2, then=partial(self.table.give_back, lease.slot))
        sequence = self.journal.append(build_once)

        def journalled() -> None:
            both.part_done()
            if both.missing:
                # Billing may acknowledge the event, and its segment go, before Valkey has answered.
                self.table.journalled(lease.slot, ending)

        self.journal.when_durable(sequence, journalled)
        self.settler.settle(
            lease.id, cost=cost, tokens=tokens, event=event, then=both.part_done, outcome=outcome
        )
        return both.future

    async def close(self, deadline_seconds: float) -> bool:
        """Waits until every lease is settled and billing has every event, dead processes' too; False when the deadline came first.

        Within `open_meter`, whose loops do the work.
        """
        self.closing = True
        deadline = time.monotonic() + deadline_seconds
        while True:
            if not self.running and not self.settler.outstanding:
                self.journal.mark()
                if self.journal.acknowledged >= self.journal.last_sequence and not self.left_behind():
                    return True
            if time.monotonic() >= deadline:
                log.warning(
                    "drain_unfinished",
                    running=len(self.running),
                    unsettled=self.settler.outstanding,
                    unacknowledged=self.journal.last_sequence - self.journal.acknowledged,
                )
                return False
            await asyncio.sleep(POLL_SECONDS)

    async def _admit(
        self, call: Call, key: str, standing: Standing, slot: int, claimed: ClaimedId | None
    ) -> RunningLease:
        deployment = call.deployment
        context = deployment.context_tokens
        prompt_tokens_max = call.prompt_tokens_max
        wanted_each = context if call.output_tokens_max is None else min(context, call.output_tokens_max)
        if call.streamed:
            wanted_each = min(wanted_each, self.settings.slice_tokens)
        granted_each = wanted_each
        series = self.requests.of(deployment, call.dialect)

        used_up = False
        for _ in range(ADMIT_ROUNDS_MAX):
            prepared, project = prepared_for(call, standing, used_up=used_up), standing.project.record
            prices = prepared.prices
            limits = prepared.planned.limits(prompt_tokens_max=prompt_tokens_max, at_us=_now_us())
            if deployment.slots is not None:
                weight, has_turn = project.org_weight, call.has_turn
                limits.append(slots_limit(deployment, org=project.org, weight=weight, has_turn=has_turn))
            fixed = identity_of(call, prepared, project)
            claim = claim_of(call, project)
            beside = 0 if claim is None and claimed is None else CLAIM_BYTES_MAX
            if len(fixed) > FIXED_BYTES_MAX - beside:
                raise InvalidRequest("The request's names and headers are too long together.")
            input_value = prompt_tokens_max * prices.input_max
            hold = pricing.micros(input_value + granted_each * call.choices * prices.output)

            def orphaned(
                admitted: Admitted,
                prices: UnitPrices = prices,
                limits: Sequence[CheckedLimit] = limits,
                fixed: bytes = fixed,
                claim: Claim | None = claim,
            ) -> None:
                terms = Terms(
                    prices=prices,
                    limits=limits,
                    records=(),
                    prompt_tokens_max=prompt_tokens_max,
                    choices=call.choices,
                    output_tokens_max=None,
                    revision=deployment.revision,
                    series=series,
                    claim=claim,
                )
                self._orphaned(admitted, terms, fixed)

            verdict = await self.limiter.admit(
                standing.records, limits, hold=hold, fragment=fixed, orphaned=orphaned, claim=claim
            )
            if isinstance(verdict, Stale):
                standing = await self._directory.standing(key, call.task, stale=[verdict.hash_key])
                _check(standing, call)
            elif isinstance(verdict, Short) and verdict.limit[0] == plan.COMMITMENT_THEN_OVERAGE:
                # Its contract's term, and settled here: what is admitted as usage beyond the commitment stays that.
                used_up = True
            elif isinstance(verdict, Short):
                granted_each = _payable_each(verdict, call, prices, input_value, granted_each)
            else:
                clamped = not call.streamed and granted_each < wanted_each
                terms = Terms(
                    prices=prices,
                    limits=limits,
                    records=(standing.key, standing.project),
                    prompt_tokens_max=prompt_tokens_max,
                    choices=call.choices,
                    output_tokens_max=granted_each if clamped else call.output_tokens_max,
                    revision=deployment.revision,
                    series=series,
                    claim=claim,
                    claimed=claimed,
                )
                lease = RunningLease(
                    self,
                    verdict,
                    terms,
                    slot=slot,
                    fixed=fixed,
                    output_tokens_granted=granted_each * call.choices,
                )
                self.running[lease.id] = lease
                return lease
        raise LimitsUnavailable("The account's limits change faster than they can be checked.")

    def _orphaned(self, admitted: Admitted, terms: Terms, fixed: bytes) -> None:
        """Ends at once what was admitted for a client that had gone before the answer came."""
        slot = self.table.take()
        if slot is None or not self.journal.reserve():
            if slot is not None:
                self.table.give_back(slot)
            return  # the reaper takes it
        lease = RunningLease(self, admitted, terms, slot=slot, fixed=fixed, output_tokens_granted=0)
        self.running[lease.id] = lease
        lease.settle(Ending.CLIENT_GONE)


def _check(standing: Standing, call: Call) -> None:
    key, project = standing.key.record, standing.project.record
    authorisation.check_caller(key, project, call.credentials, KeyScope.INFERENCE, now_us=_now_us())
    authorisation.check_paused(project)
    deployment = call.deployment
    authorisation.check_model(key, project, deployment, requested=call.model_requested, instead=call.instead)
    if deployment.model not in standing.prices.record.models:
        log.error("model_without_price", model=deployment.model, currency=project.currency)
        raise ModelNotFound(call.model_requested)
    if call.task is not None:
        authorisation.check_task(None if standing.task is None else standing.task.record, project)


def _payable_each(short: Short, call: Call, prices: UnitPrices, input_value: int, granted_each: int) -> int:
    """The output a choice that the money can pay for, at least one token; else the refusal."""
    payable = pricing.output_tokens_payable(prices, input_value=input_value, micros=short.room)
    each = granted_each - 1 if payable is None else min(granted_each - 1, payable // call.choices)
    if each < 1:
        raise plan.refusal(
            short.limit,
            used=short.used,
            ceiling=short.ceiling,
            weight=pricing.micros(input_value + call.choices * prices.output),
            retry_after_seconds=short.begins_anew_seconds,
            states=short.states,
        )
    return each


def _now_us() -> int:
    return time.time_ns() // 1000
