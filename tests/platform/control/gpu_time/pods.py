"""Pods as Kubernetes tells of them, at minutes after a whole hour."""

from datetime import UTC, datetime, timedelta
from typing import Any

from headrace_platform.control.conditions import timestamp
from headrace_platform.control.gpu_time.held import microseconds

BEGINNING = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
BEGINNING_US = microseconds(BEGINNING)


def moment(minutes: float) -> datetime:
    return BEGINNING + timedelta(minutes=minutes)


def pod(
    uid: str = "pod-1",
    *,
    accelerators: int = 8,
    started_minutes: float | None = 0,
    ended_minutes: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Running, or with a container that ended at each of these times; waiting for a node without a start."""
    status: dict[str, Any] = {"phase": "Pending"}
    if started_minutes is not None:
        status = {"phase": "Running", "startTime": timestamp(moment(started_minutes))}
    if ended_minutes:
        status["phase"] = "Succeeded"
        status["containerStatuses"] = [
            {"name": f"c{number}", "state": {"terminated": {"finishedAt": timestamp(moment(end))}}}
            for number, end in enumerate(ended_minutes)
        ]
    limits = {"nvidia.com/gpu": str(accelerators)} if accelerators else {}
    return {
        "metadata": {"name": uid, "uid": uid, "namespace": "acme"},
        "spec": {"containers": [{"name": "c0", "resources": {"limits": limits}}, {"name": "c1"}]},
        "status": status,
    }
