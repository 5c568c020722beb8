"""However admissions, settlements, deaths and late settlements mix: a key runs once at a time, and never again
once its answer is kept."""

from functools import partial
from typing import Any, TypeVar

import pytest
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
from headrace_contracts.usage import Ending, TokenCounts
from headrace_gateway.call import AlreadyAnswered, KeptAnswer
from headrace_gateway.errors import IdempotencyInProgress, IdempotencyKeyReused
from headrace_gateway.limits import idempotency, keys
from headrace_gateway.limits.idempotency import AnswerBounds, Claim, Outcome
from headrace_gateway.limits.limiter import Admitted, pack
from tests.gateway.limits.ground import FRAGMENT, let_lapse, settle
from tests.gateway.limits.machine import LimiterMachine, steps

Result = TypeVar("Result")
BOUNDS = AnswerBounds(org_bytes_max=600, all_bytes_max=900)
CLAIMS = st.builds(
    Claim,
    project=st.sampled_from("pq"),
    key=st.sampled_from("ab"),
    request=st.sampled_from("xy"),
    counted_with=st.sampled_from(["org_a", "org_b"]),
)
BODY = st.none() | st.binary(min_size=1, max_size=200)


def answer(request_id: str, body: bytes | None) -> KeptAnswer:
    return KeptAnswer(
        id=request_id, ending=Ending.COMPLETED, tokens=TokenCounts(output_visible=1), revision="r", body=body
    )


class Keys(LimiterMachine):
    leases = Bundle("leases")

    def __init__(self, url: str, client: redis.Redis) -> None:
        super().__init__(url, client, answers=BOUNDS)
        self.claims: dict[str, Claim] = {}
        self.running: dict[tuple[str, str], str] = {}
        """By project and key: who runs."""
        self.ended: dict[tuple[str, str], tuple[str, str]] = {}
        """By project and key: the request, and whose answer is kept."""
        self.holder: dict[tuple[str, str], str] = {}
        """Who claimed the key last."""
        self.settled: set[str] = set()

    @initialize()
    def open(self) -> None:
        self.client.set(channels.EPOCH, "e")

    @rule(target=leases, claim=CLAIMS)
    def admit(self, claim: Claim) -> Any:
        place = (claim.project, claim.key)
        asked = self.limiter.admit([], [], hold=0, fragment=FRAGMENT, orphaned=lambda _: None, claim=claim)
        standing = self.running.get(place)
        request, kept = self.ended.get(place, (None, None))
        if standing is not None:
            request = self.claims[standing].request
        if request is not None and request != claim.request:
            with pytest.raises(IdempotencyKeyReused):
                self.run(asked)
        elif standing is not None:
            with pytest.raises(IdempotencyInProgress):
                self.run(asked)
        elif kept is not None:
            with pytest.raises(AlreadyAnswered) as before:
                self.run(asked)
            assert before.value.answer.id == kept
        else:
            admitted = self.run(asked)
            assert isinstance(admitted, Admitted)
            self.claims[admitted.id] = claim
            self.running[place] = self.holder[place] = admitted.id
            return admitted.id
        return multiple()

    @rule(lease=leases, body=BODY, charged=st.booleans())
    def settle(self, lease: str, body: bytes | None, charged: bool) -> None:
        """In time, or after the reaper, or a second time."""
        claim = self.claims[lease]
        place = (claim.project, claim.key)
        brief = pack(answer(lease, None))
        whole = pack(answer(lease, body)) if body is not None else brief if charged else b""
        outcome = Outcome(claim, whole, brief)
        self.run(settle(self.limiter, lease, cost=0, tokens=TokenCounts(), outcome=outcome))
        if self.running.get(place) == lease:
            del self.running[place]
        # A settlement counts for the key unless it was kept before, or another has the key since.
        if place in self.ended or self.holder.get(place) not in (None, lease):
            return
        if whole:
            self.ended[place] = (claim.request, lease)
            self.holder[place] = lease
        else:
            self.holder.pop(place, None)

    @rule(lease=leases)
    def die(self, lease: str) -> None:
        claim = self.claims[lease]
        place = (claim.project, claim.key)
        if self.running.get(place) == lease:
            let_lapse(self.client, lease)
            assert self.run(self.limiter.reap()) == [lease]
            del self.running[place]

    @invariant()
    def what_is_kept_is_bounded_and_passes(self) -> None:
        by_org: Any = self.client.mget([keys.idempotent_bytes(org) for org in ("org_a", "org_b")])
        together: Any = self.client.get(keys.idempotent_bytes_of_all(idempotency.KEPT_SECONDS))
        kept = [int(counted or 0) for counted in by_org]
        assert max(kept) <= BOUNDS.org_bytes_max
        assert sum(kept) == int(together or 0) <= BOUNDS.all_bytes_max
        for place in self.client.keys("hr:idempotent*"):
            ttl: Any = self.client.pttl(place)
            assert 0 < ttl <= idempotency.CLAIMED_SECONDS * 1000


def test_a_key_is_served_once_whatever_happens(valkey_url: str, client: redis.Redis) -> None:
    machine: Any = partial(Keys, valkey_url, client)
    run_state_machine_as_test(machine, settings=steps(25))
