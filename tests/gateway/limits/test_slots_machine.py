"""Whatever the order of admissions, turns, settlements, crashes and reapings: no slot too many, and none lost."""

from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, rule, run_state_machine_as_test

from headrace_contracts import channels
from headrace_gateway.call import DeploymentFull
from headrace_gateway.limits import slots
from headrace_gateway.limits.limiter import Admitted, Renewal
from headrace_gateway.limits.slots import slots_limit
from headrace_gateway.limits.turns import turns_of
from tests.gateway.account import DEPLOYMENT
from tests.gateway.limits.ground import FRAGMENT, ONE_TOKEN, WALLET, let_lapse, settle
from tests.gateway.limits.machine import LimiterMachine, steps
from tests.gateway.routing.crowd import slotted

SLOTS = 3
ORGS = st.sampled_from(["org_1", "org_2"])
KEY = f"hr:slots:{DEPLOYMENT.id}"


class Slots(LimiterMachine):
    leases = Bundle("leases")

    def __init__(self, url: str, client: redis.Redis) -> None:
        super().__init__(url, client)
        self.standing: set[str] = set()
        self.waiting: dict[str, int] = {}

    @initialize()
    def open(self) -> None:
        self.client.set(channels.EPOCH, "e")
        self.client.hset(WALLET[1], mapping={"bal": 10**6, "ver": 1})

    def admit(self, org: str, *, has_turn: bool) -> Admitted | None:
        limit = slots_limit(slotted(SLOTS), org=org, weight=1, has_turn=has_turn)
        asked = self.limiter.admit([], [WALLET, limit], hold=1, fragment=FRAGMENT, orphaned=lambda _: None)
        try:
            verdict = self.run(asked)
        except DeploymentFull:
            return None
        assert isinstance(verdict, Admitted)
        self.standing.add(verdict.id)
        return verdict

    @rule(target=leases, org=ORGS)
    def come(self, org: str) -> Any:
        before = len(self.standing)
        admitted = self.admit(org, has_turn=False)
        assert (admitted is not None) == (before < SLOTS and not self.waiting)
        if admitted is None:
            self.waiting[org] = self.waiting.get(org, 0) + 1
            self.report()
            return multiple()
        return admitted.id

    @rule(target=leases)
    def turns_come(self) -> Any:
        seen = self.report()
        turns = turns_of(seen, gateway="g", slots=SLOTS)
        assert len(turns) == min(SLOTS - len(self.standing), sum(self.waiting.values()))
        admitted = []
        for _, org in turns:
            lease = self.admit(org, has_turn=True)
            assert lease is not None
            admitted.append(lease.id)
            self.leave(org)
        return multiple(*admitted)

    @rule(org=ORGS)
    def hang_up(self, org: str) -> None:
        if org in self.waiting:
            self.leave(org)

    @rule(lease=leases)
    def settle(self, lease: str) -> None:
        assert self.run(settle(self.limiter, lease, cost=1)) == (lease in self.standing)
        self.standing.discard(lease)

    @rule(lease=leases)
    def crash_and_reap(self, lease: str) -> None:
        if lease in self.standing:
            let_lapse(self.client, lease)
            assert self.run(self.limiter.reap()) == [lease]
            self.standing.discard(lease)

    @rule(lease=leases)
    def is_lost_and_registered_again(self, lease: str) -> None:
        if lease not in self.standing:
            return
        self.client.delete(f"hr:lease:{lease}")
        self.client.zrem("hr:leases", lease)
        self.client.decr(KEY)
        limit = slots_limit(slotted(SLOTS), org="org_1", weight=1, has_turn=False)
        renewal = Renewal(lease, b'"attempts":1,"tokens":{}', 0, ONE_TOKEN, None)
        again = self.limiter.register(renewal, [limit], hold=1, fragment=FRAGMENT, admitted_at_us=1)
        assert self.run(again)

    def leave(self, org: str) -> None:
        self.waiting[org] -= 1
        if not self.waiting[org]:
            del self.waiting[org]
        self.report()

    def report(self) -> Any:
        entries = [(0, org, 1, count, 0) for org, count in self.waiting.items()]
        return self.run(self.limiter.waiting(DEPLOYMENT.id, entries))

    @invariant()
    def slots_are_those_of_the_leases_that_stand(self) -> None:
        taken: Any = self.client.get(KEY)
        assert int(taken or 0) == len(self.standing) <= SLOTS
        assert bool(self.client.exists(f"hr:waiting:{DEPLOYMENT.id}")) <= bool(self.waiting)


def test_slots_are_never_exceeded_and_never_lost(
    valkey_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What waits would have to be said again and again: here it stands, however long a step takes.
    monkeypatch.setattr(slots, "STANDS_MS", 600_000)
    machine: Any = partial(Slots, valkey_url, client)
    run_state_machine_as_test(machine, settings=steps(30))
