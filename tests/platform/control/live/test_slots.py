"""The gateway's slots follow the replicas that answer."""

from datetime import timedelta
from typing import Any

import pytest

from headrace_platform.control.observation import Key
from headrace_platform.control.replicas import FEWER_AFTER
from tests.platform.control.live.ground import Ground, Operator, path_of
from tests.platform.control.live.test_reconcile import ready

A_LITTLE = timedelta(seconds=6)
"""Longer than a count is kept."""

TARGETS = {"ongoingRequests": 4, "ongoingRequestsMax": 10}
POLICY = {"mode": "policy", "minReplicas": 1, "maxReplicas": 3, "targets": TARGETS}


async def slots(ground: Ground, key: Key) -> int | None:
    [line] = (await ground.routes())[f"{key.namespace}.{key.name}.json"].deployments
    return line.slots


async def counted(ground: Ground, operator: Operator, key: Key, replicas: int) -> int | None:
    """Slots, a little after so many replicas answer."""
    ground.endpoints.replicas["tiny-c1"] = replicas
    ground.clock.advance(A_LITTLE)
    await operator.look(key)
    return await slots(ground, key)


async def test_slots_grow_with_each_replica_that_answers(ground: Ground) -> None:
    ground.endpoints.replicas["tiny-c1"] = 1
    operator, key = await ready(ground, {"scaling": POLICY})
    assert await slots(ground, key) == 10
    assert await counted(ground, operator, key, 2) == 20
    assert await counted(ground, operator, key, 3) == 30
    # While an update brings new replicas beside the old ones.
    assert await counted(ground, operator, key, 5) == 30


async def test_fewer_replicas_are_believed_when_it_lasts(ground: Ground) -> None:
    ground.endpoints.replicas["tiny-c1"] = 3
    operator, key = await ready(ground, {"scaling": POLICY})
    assert await counted(ground, operator, key, 2) == 30
    assert await counted(ground, operator, key, 3) == 30
    ground.clock.advance(FEWER_AFTER)
    assert await counted(ground, operator, key, 2) == 30, "it was whole in between"
    ground.clock.advance(FEWER_AFTER)
    assert await operator.look(key) == timedelta(seconds=60)
    assert await slots(ground, key) == 20


async def test_while_a_lower_count_waits_to_be_believed_it_is_looked_at_soon(ground: Ground) -> None:
    ground.endpoints.replicas["tiny-c1"] = 2
    operator, key = await ready(ground, {"scaling": POLICY})
    ground.endpoints.replicas["tiny-c1"] = 1
    ground.clock.advance(A_LITTLE)
    assert await operator.look(key) == timedelta(seconds=5)


async def test_one_replica_s_slots_stay_where_there_is_none_for_a_request_brings_it_back(
    ground: Ground,
) -> None:
    asleep = {**POLICY, "minReplicas": 0, "scaleToZeroAfterSeconds": 300}
    ground.endpoints.replicas["tiny-c1"] = 1
    operator, key = await ready(ground, {"scaling": asleep})
    asked = len(ground.endpoints.asked)
    await counted(ground, operator, key, 0)
    ground.clock.advance(FEWER_AFTER)
    assert await counted(ground, operator, key, 0) == 10
    assert len(ground.endpoints.asked) == asked, "counting wakes nobody"


async def test_of_a_fixed_number_those_that_answer_have_slots(ground: Ground) -> None:
    ground.endpoints.replicas["tiny-c1"] = 1
    operator, key = await ready(ground, {"scaling": {"mode": "fixed", "replicas": 3, "targets": TARGETS}})
    assert await slots(ground, key) == 10
    assert await counted(ground, operator, key, 3) == 30


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_count_that_can_not_be_had_is_no_zero(ground: Ground, restarts: bool) -> None:
    ground.endpoints.replicas["tiny-c1"] = 2
    operator, key = await ready(ground, {"scaling": POLICY})
    del ground.endpoints.replicas["tiny-c1"]
    ground.clock.advance(timedelta(minutes=5))
    # An operator that has never counted goes by the most that there may be.
    await (await ground.operator() if restarts else operator).look(key)
    assert await slots(ground, key) == (30 if restarts else 20)


async def test_slots_are_counted_while_a_change_waits_for_its_window(ground: Ground) -> None:
    ground.endpoints.replicas["tiny-c1"] = 1
    weekend = {"days": ["Sat"], "start": "01:00", "end": "05:00"}
    changes: dict[str, Any] = {"scaling": POLICY, "upgrade": {"window": weekend}}
    operator, key = await ready(ground, changes)
    await ground.kube.merge(path_of(key), {"spec": {"scheduling": {"priorityClassName": "urgent"}}})
    await operator.look(key)
    assert await counted(ground, operator, key, 2) == 20


async def test_the_second_pass_in_a_row_writes_nothing(ground: Ground) -> None:
    ground.endpoints.replicas["tiny-c1"] = 2
    operator, key = await ready(ground, {"scaling": POLICY})
    before = len(ground.server.writes)
    await counted(ground, operator, key, 2)
    assert len(ground.server.writes) == before
