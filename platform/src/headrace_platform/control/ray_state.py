"""What KubeRay says of a RayService (v1.7), as far as a deployment's state depends on it. Pure."""

from dataclasses import dataclass

from headrace_platform.control.labels import Manifest

FAILED_APPLICATION = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})


@dataclass(frozen=True, slots=True)
class RayState:
    exists: bool = False
    is_observed: bool = False
    """KubeRay has seen the newest spec."""
    active: str = ""
    """The RayCluster that serves; empty before the first one does."""
    pending: str = ""
    is_cluster_ready: bool = False
    """Head and workers of the cluster that serves, or is the first to."""
    is_serving: bool = False
    is_upgrading: bool = False
    is_rolling_back: bool = False
    traffic_percent: int | None = None
    """That the pending cluster has, in an incremental upgrade."""
    failure: str = ""
    """What Serve says of an application that does not come up."""

    @property
    def is_changing(self) -> bool:
        """What answers may still be what was there before the newest spec."""
        return not self.is_observed or bool(self.active and self.pending)


def ray_state(service: Manifest | None) -> RayState:
    if service is None:
        return RayState()
    status = service.get("status", {})
    active, pending = status.get("activeServiceStatus", {}), status.get("pendingServiceStatus", {})
    true = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
    running = active if active.get("rayClusterName") else pending
    return RayState(
        exists=True,
        is_observed=status.get("observedGeneration", 0) >= service["metadata"]["generation"],
        active=active.get("rayClusterName", ""),
        pending=pending.get("rayClusterName", ""),
        is_cluster_ready=running.get("rayClusterStatus", {}).get("state") == "ready",
        is_serving="Ready" in true,
        is_upgrading="UpgradeInProgress" in true,
        is_rolling_back="RollbackInProgress" in true,
        traffic_percent=pending.get("trafficRoutedPercent"),
        failure=_failure(pending) or _failure(active),
    )


def _failure(of_cluster: Manifest) -> str:
    for name, application in sorted(of_cluster.get("applicationStatuses", {}).items()):
        if application.get("status") in FAILED_APPLICATION:
            return f"{name} is {application['status']}: {application.get('message', '')}"
    return ""
