"""Of several operators one leads; a dead one is followed when its lease has run out by the follower's own clock."""

import asyncio
from datetime import timedelta

import pytest

from headrace_platform.control.kubernetes_api import Access, ApiUnavailable, KubernetesApi
from headrace_platform.control.lease import DURATION, Leader
from tests.platform.control.live.ground import Ground
from tests.support.kubernetes.calls import Fault


async def candidate(ground: Ground, identity: str) -> Leader:
    api = KubernetesApi(
        Access(ground.server.url), "headrace-operator", backoff_seconds_min=0.001, attempts_max=2
    )
    return Leader(await ground.stack.enter_async_context(api), "headrace", identity, ground.clock.now)


async def test_the_first_leads_for_as_long_as_it_renews(ground: Ground) -> None:
    first, second = await candidate(ground, "first"), await candidate(ground, "second")
    for _ in range(6):
        await first.step()
        await second.step()
        ground.clock.advance(timedelta(seconds=10))
        assert (first.is_leading(), second.is_leading()) == (True, False)


async def test_a_dead_leader_is_followed_when_its_lease_has_run_out_and_not_before(ground: Ground) -> None:
    first, second = await candidate(ground, "first"), await candidate(ground, "second")
    await first.step()
    await second.step()
    ground.clock.advance(DURATION)
    await second.step()
    assert not first.is_leading(), "it knows itself that it was too long away"
    assert not second.is_leading()
    ground.clock.advance(timedelta(seconds=1))
    await second.step()
    assert second.is_leading()
    await first.step()
    assert not first.is_leading()


async def test_a_leader_that_leaves_is_followed_at_once(ground: Ground) -> None:
    first, second = await candidate(ground, "first"), await candidate(ground, "second")
    await first.step()
    await first.release()
    await second.step()
    assert (first.is_leading(), second.is_leading()) == (False, True)
    await first.release()
    await second.step()
    assert second.is_leading(), "nobody gives up what is another's"


async def test_of_two_that_take_a_lease_at_once_one_has_it(ground: Ground) -> None:
    first, second = await candidate(ground, "first"), await candidate(ground, "second")
    ground.server.script.faults.append(Fault(lambda call: call.verb == "get", delay_seconds=0.01, times=2))
    await asyncio.gather(first.step(), second.step())
    assert first.is_leading() is not second.is_leading()


async def test_who_can_t_renew_stops_leading_in_time(ground: Ground) -> None:
    leader = await candidate(ground, "first")
    await leader.step()
    ground.server.script.faults.append(Fault(lambda _: True, status=503, times=1000))
    ground.clock.advance(DURATION - timedelta(seconds=1))
    with pytest.raises(ApiUnavailable):
        await leader.step()
    assert leader.is_leading()
    ground.clock.advance(timedelta(seconds=1))
    assert not leader.is_leading()
