"""What holds at some hours only, and what somebody else may say within it."""

from datetime import timedelta

from tests.platform.control.live.ground import Ground, path_of
from tests.platform.control.live.test_reconcile import ready

# It is nine in the morning, a Wednesday.
MORNING = {"days": ["Wed"], "start": "08:00", "end": "12:00"}


async def test_a_schedule_s_bounds_hold_while_its_window_is_open(ground: Ground) -> None:
    schedule = {"name": "rush", "window": MORNING, "minReplicas": 3, "maxReplicas": 4}
    scaling = {"mode": "external", "minReplicas": 1, "maxReplicas": 4, "schedules": [schedule]}
    operator, key = await ready(ground, {"scaling": scaling})
    assert (await ground.get(key))["status"]["readyReplicas"] == 3
    ground.clock.advance(timedelta(hours=4))
    await ground.settle(operator, key)
    assert (await ground.get(key))["status"]["readyReplicas"] == 1
    await ground.kube.merge(f"{path_of(key)}/scale", {"spec": {"replicas": 2}})
    await ground.settle(operator, key)
    assert (await ground.get(key))["status"]["readyReplicas"] == 2


async def test_a_night_of_few_replicas_takes_no_cluster_away(ground: Ground) -> None:
    schedule = {"name": "night", "window": MORNING, "minReplicas": 1, "maxReplicas": 2}
    scaling = {
        "mode": "external",
        "replicas": 2,
        "minReplicas": 1,
        "maxReplicas": 90,
        "schedules": [schedule],
    }
    operator, key = await ready(ground, {"scaling": scaling})
    assert await ground.routed(key) == ["tiny-c1", "tiny-c2"]
    ground.clock.advance(timedelta(hours=4))
    writes = len(ground.server.writes)
    await ground.settle(operator, key)
    assert [str(call) for call in ground.server.writes[writes:]] == []


async def test_a_model_that_may_go_down_to_no_replica_is_not_kept_awake_by_questions(ground: Ground) -> None:
    scaling = {"mode": "policy", "minReplicas": 0, "maxReplicas": 2, "scaleToZeroAfterSeconds": 300}
    operator, key = await ready(ground, {"scaling": scaling})
    asked = len(ground.endpoints.asked)
    for _ in range(10):
        ground.clock.advance(timedelta(minutes=1))
        await operator.look(key)
    assert len(ground.endpoints.asked) == asked
    assert await ground.is_ready(key)
    # Another cluster has to answer for itself.
    await ground.kube.merge(path_of(key), {"spec": {"scheduling": {"priorityClassName": "urgent"}}})
    await ground.settle(operator, key)
    assert len(ground.endpoints.asked) > asked
