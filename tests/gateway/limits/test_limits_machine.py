"""Whatever the order of admissions, extensions, settlements, reapings and pushes: the counters add up."""

from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from headrace_contracts import channels
from headrace_contracts.usage import TokenCounts
from headrace_gateway.errors import LimitReached
from headrace_gateway.keys.directory import Versioned
from headrace_gateway.limits.limiter import Admitted, Renewal, Short, Stale
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.limits.verdicts import Reaped
from tests.gateway.limits.ground import (
    BUDGET,
    GAUGE,
    ONE_TOKEN,
    WALLET,
    amounts,
    let_lapse,
    let_return_lapse,
    settle,
    try_admit,
)
from tests.gateway.limits.machine import LimiterMachine, steps

Result = TypeVar("Result")
# A second long, so that they begin anew in the midst of it.
WINDOW_CEILING = 8
FIXED: CheckedLimit = (
    "fixed_window",
    "hr:limit:window-fixed:key:k",
    WINDOW_CEILING,
    1,
    (0, 0, 0, 1, 1000, 0),
)
SLIDING: CheckedLimit = (
    "sliding_window",
    "hr:limit:window-sliding:key:k",
    WINDOW_CEILING,
    1,
    (0, 0, 0, 1, 17, 0),
)
DAY: CheckedLimit = ("spend_day", "hr:limit:spend_day:org:o", 10**9, 0)
KEY: Versioned[None] = Versioned("hr:key:k", "1", None)
ALL = [GAUGE, FIXED, SLIDING, BUDGET, DAY, WALLET]

COUNTS = b'"attempts":1,"tokens":{}'


async def refused_or(asked: Coroutine[Any, Any, Result]) -> Result | LimitReached:
    try:
        return await asked
    except LimitReached as refused:
        return refused


class Limits(LimiterMachine):
    leases = Bundle("leases")

    def __init__(self, url: str, client: redis.Redis) -> None:
        super().__init__(url, client)
        self.standing: dict[str, int] = {}
        self.reaped: dict[str, tuple[int, int]] = {}
        """Of those that no final event has ended: what is still held, and the estimate."""
        self.let_go: dict[str, int] = {}
        """The same, of those for which nothing is held any more: the estimate."""
        self.taken: set[str] = set()
        self.spent = 0
        self.events = 0
        self.key_version = 1
        self.key_known = KEY

    @initialize(balance=st.integers(0, 5000))
    def open(self, balance: int) -> None:
        self.client.set(channels.EPOCH, "e")
        self.client.hset(WALLET[1], mapping={"bal": balance, "ver": 1})
        self.client.hset(KEY.hash_key, "v", KEY.version)

    @rule(target=leases, hold=st.integers(0, 2000))
    def admit(self, hold: int) -> Any:
        balance, held, pending = amounts(self.client)
        verdict = self.run(refused_or(try_admit(self.limiter, hold, ALL, [self.key_known])))
        if self.key_is_stale:
            assert verdict == Stale(KEY.hash_key)
            return multiple()
        if isinstance(verdict, LimitReached):
            assert verdict.used == verdict.ceiling == WINDOW_CEILING
            assert verdict.retry_after_seconds is not None
            assert 0 <= verdict.retry_after_seconds <= 1.1
            return multiple()
        if isinstance(verdict, Admitted):
            assert hold <= balance - held - pending
            self.standing[verdict.id] = hold
            return verdict.id
        assert isinstance(verdict, Short)
        assert verdict.room == balance - held - pending < hold
        return multiple()

    @rule(lease=leases, hold=st.integers(0, 3000))
    def extend(self, lease: str, hold: int) -> None:
        balance, held, pending = amounts(self.client)
        verdict = self.run(self.limiter.extend(lease, [self.key_known], ALL, hold=hold))
        if lease in self.taken:
            assert verdict == Reaped()
        elif lease not in self.standing:
            assert verdict is False
        elif self.key_is_stale:
            assert verdict == Stale(KEY.hash_key)
        elif verdict is True:
            assert hold - self.standing[lease] <= max(0, balance - held - pending)
            self.standing[lease] = hold
        else:
            assert isinstance(verdict, Short)
            assert verdict.room < hold

    @rule(lease=leases, used=st.floats(0, 1))
    def settle(self, lease: str, used: float) -> None:
        hold = self.standing.pop(lease, None)
        late = self.let_go.pop(lease, None)
        rest, estimate = self.reaped.pop(lease, (0, 0) if late is None else (2000, late))
        cost = int((rest + estimate if hold is None else hold) * used)
        stood = self.run(settle(self.limiter, lease, cost=cost))
        assert stood == (hold is not None)
        # Who has been let go moves budgets, but no wallet: billing tells what that has.
        if hold is not None or late is not None or (rest, estimate) != (0, 0):
            self.spent += cost - estimate
        self.events += 1

    @rule(lease=leases)
    def nobody_returns(self, lease: str) -> None:
        """The gateway of a reaped lease stays away for longer than anything is held for it."""
        reaped = self.reaped.pop(lease, None)
        if reaped is not None:
            _, self.let_go[lease] = reaped
            let_return_lapse(self.client, lease)
            assert self.run(self.limiter.reap()) == []

    @rule(lease=leases, used=st.floats(0, 1), hold=st.none() | st.integers(0, 2000))
    def beat_then_reap(self, lease: str, used: float, hold: int | None) -> None:
        standing = self.standing.pop(lease, None)
        cost = int(min(100 if standing is None else standing, 2000 if hold is None else hold) * used)
        renewal = Renewal(id=lease, counts=COUNTS, cost=cost, tokens=ONE_TOKEN, hold=hold)
        pulse = self.run(self.limiter.heartbeat([renewal], []))
        assert (pulse.reaped + pulse.lost) == ([] if standing is not None else [lease])
        if standing is not None:
            let_lapse(self.client, lease)
            assert self.run(self.limiter.reap()) == [lease]
            held = standing if hold is None else min(hold, standing)
            self.reaped[lease] = (held - cost, cost)
            self.taken.add(lease)
            self.spent += cost
            self.events += 1

    @rule(lease=leases, hold=st.integers(0, 2000))
    def shrink(self, lease: str, hold: int) -> None:
        renewal = Renewal(id=lease, counts=COUNTS, cost=0, tokens=TokenCounts(), hold=hold)
        self.run(self.limiter.heartbeat([renewal], []))
        if lease in self.standing:
            self.standing[lease] = min(hold, self.standing[lease])

    @rule(take=st.integers(1, 5))
    def billing_posts(self, take: int) -> None:
        """What billing's push does: posted amounts leave the balance and pending together."""
        found: Any = self.client.hgetall(channels.pending("w"))
        posted = dict(list(found.items())[:take])
        total = sum(int(amount) for amount in posted.values())
        if posted:
            self.client.hincrby(WALLET[1], "bal", -total)
            self.client.hincrby(WALLET[1], "pend", -total)
            self.client.hdel(channels.pending("w"), *posted)

    @rule(amount=st.integers(1, 3000))
    def top_up(self, amount: int) -> None:
        self.client.hincrby(WALLET[1], "bal", amount)

    @rule()
    def revoke(self) -> None:
        """Or any other change of the key: whoever goes by an older record gets nothing, and more than it has neither."""
        self.key_version += 1
        self.client.hset(KEY.hash_key, "v", str(self.key_version))

    @rule()
    def look_again(self) -> None:
        """What a gateway does when it is told that its record is old."""
        self.key_known = replace(KEY, version=str(self.key_version))

    @property
    def key_is_stale(self) -> bool:
        return self.key_known.version != str(self.key_version)

    @invariant()
    def all_adds_up(self) -> None:
        balance, held, pending = amounts(self.client)
        assert held == sum(self.standing.values()) + sum(rest for rest, _ in self.reaped.values())
        stored: Any = self.client.hgetall(channels.pending("w"))
        assert pending == sum(int(amount) for amount in stored.values())
        assert balance - held - pending >= 0
        gauge: Any = self.client.get(GAUGE[1])
        assert int(gauge or 0) == len(self.standing)
        budget: Any = self.client.get(BUDGET[1])
        assert int(budget or 0) == self.spent + held
        days = [int(self.client.get(key) or 0) for key in self.client.keys(DAY[1] + ":*")]
        assert sum(days) == self.spent + held
        self.windows_hold()
        leases: Any = self.client.zrange("hr:leases", 0, -1)
        assert {lease.decode() for lease in leases} == set(self.standing)
        assert self.client.xlen(channels.USAGE) == self.events

    def windows_hold(self) -> None:
        for key in self.client.keys(FIXED[1] + ":*"):
            used: Any = self.client.get(key)
            assert 0 <= int(used or 0) <= WINDOW_CEILING
        now: Any = self.client.time()
        slices: Any = self.client.hgetall(SLIDING[1])
        present = (int(now[0]) * 1_000_000 + int(now[1])) // 17_000
        in_it = [int(amount) for slice_, amount in slices.items() if int(slice_) > present - 60]
        assert all(amount > 0 for amount in in_it)
        assert sum(in_it) <= WINDOW_CEILING
        assert len(slices) <= 61


def test_money_and_gauges_add_up_whatever_happens(valkey_url: str, client: redis.Redis) -> None:
    machine: Any = partial(Limits, valkey_url, client)
    run_state_machine_as_test(machine, settings=steps(30))
