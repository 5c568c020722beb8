"""What pods tell of themselves, and which of it is a matter of the weights, of room, or of the engine."""

from typing import Any

import pytest

from headrace_platform.control.workers import Hindrance, workers

GPU = {"nvidia.com/gpu"}


def pod(status: dict[str, Any], *, name: str = "w0", gone: bool = False) -> dict[str, Any]:
    return {
        "metadata": {"name": name, **({"deletionTimestamp": "2026-11-25T09:00:00Z"} if gone else {})},
        "spec": {
            "containers": [{"name": "ray", "resources": {"limits": {"nvidia.com/gpu": "8", "cpu": "4"}}}]
        },
        "status": status,
    }


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def waiting(kind: str, reason: str, last: str | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "state": {"waiting": {"reason": reason, "message": "said so"}}}
    if last is not None:
        container["lastState"] = {"terminated": {"message": last}}
    return {"phase": "Pending", "startTime": "2026-11-25T09:00:00Z", kind: [container]}


@pytest.mark.parametrize(
    ("status", "hindrance", "said"),
    [
        (
            unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            Hindrance.UNSCHEDULABLE,
            "3 nodes",
        ),
        (unscheduled('persistentvolumeclaim "w" not found'), Hindrance.WEIGHTS_UNAVAILABLE, '"w" not found'),
        (
            waiting("initContainerStatuses", "CrashLoopBackOff", "checksum differs"),
            Hindrance.WEIGHTS_UNAVAILABLE,
            "checksum differs",
        ),
        (
            waiting("initContainerStatuses", "CreateContainerConfigError"),
            Hindrance.WEIGHTS_UNAVAILABLE,
            "said so",
        ),
        (waiting("containerStatuses", "ImagePullBackOff"), Hindrance.CONTAINER_FAILING, "said so"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told_by_whom_it_concerns(
    status: dict[str, Any], hindrance: Hindrance, said: str
) -> None:
    ((found, message),) = workers([pod(status), pod(status, name="w1")], GPU).hindrances
    assert found is hindrance
    assert message.startswith("w0: ")
    assert said in message


def test_a_container_that_is_being_made_is_no_hindrance() -> None:
    assert workers([pod(waiting("containerStatuses", "ContainerCreating"))], GPU).hindrances == ()


def test_pods_that_have_ended_or_are_on_their_way_out_count_for_nothing() -> None:
    running = {
        "phase": "Running",
        "startTime": "2026-11-25T09:00:00Z",
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    found = workers([pod(running), pod({**running, "phase": "Failed"}), pod(running, gone=True)], GPU)
    assert (found.pods, found.ready, found.accelerators) == (1, 1, 8)
