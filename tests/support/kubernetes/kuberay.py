"""KubeRay's part, played over the API: clusters, pods and the status of RayServices, as far as a test lets them come.

After KubeRay v1.7: names, labels, conditions and their reasons; a changed cluster spec makes a pending cluster beside
the active one, which is switched to when it serves. It goes by steps, so that a test sees every state in between.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import yaml

from tests.support.kubernetes.client import Kubectl, Refused
from tests.support.kubernetes.kinds import Document

MUTED = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy")
"""Of a worker group: what may change without another cluster, for the autoscaler changes it."""

SERVICES = "/apis/ray.io/v1/rayservices"
INCREMENTAL = "NewClusterWithIncrementalUpgrade"


class Stage(IntEnum):
    """How far a cluster may come."""

    PENDING = 0  # no node has the accelerators
    CLUSTER_READY = 1  # head and workers are up, the application is starting
    SERVING = 2
    FAILED = -1  # pods run, the application does not come up


@dataclass
class KubeRay:
    kube: Kubectl
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    stages: dict[str, Stage] = field(default_factory=dict)
    """By the name of a RayService; `Stage.SERVING` where none is given."""
    workers: dict[str, int] = field(default_factory=dict)
    """Replicas that the autoscaler of a RayService wants, where it is not what Serve begins with."""
    shares: dict[str, int] = field(default_factory=dict)
    """How much of an incremental upgrade's traffic the new cluster has, in per cent; all where none is given."""

    async def settle(self, steps_max: int = 10) -> None:
        """Steps until nothing changes any more."""
        for _ in range(steps_max):
            if not await self.step():
                return
        raise AssertionError("KubeRay does not come to rest")

    async def step(self) -> bool:
        """One reconciliation of every RayService; whether it has changed anything."""
        changed = False
        for service in await self.kube.items(SERVICES):
            try:
                changed |= await _Step(self, service).run()
            except Refused as refused:
                # Somebody was faster: a controller looks again.
                if refused.status not in (404, 409):
                    raise
                changed = True
        return changed


class _Step:
    def __init__(self, ray: KubeRay, service: Document) -> None:
        self.ray, self.kube, self.service = ray, ray.kube, service
        self.namespace, self.name = service["metadata"]["namespace"], service["metadata"]["name"]
        self.stage = ray.stages.get(self.name, Stage.SERVING)
        strategy = service["spec"].get("upgradeStrategy", {}).get("type")
        self.share = ray.shares.get(self.name, 100) if strategy == INCREMENTAL else None
        self.path = f"/apis/ray.io/v1/namespaces/{self.namespace}"
        self.changed = False
        self.rolls_back = False

    async def run(self) -> bool:
        if "deletionTimestamp" in self.service["metadata"]:
            return False
        spec, status = self.service["spec"], self.service.get("status", {})
        active, pending = (_cluster_name(status, which) for which in ("active", "pending"))
        clusters = {c["metadata"]["name"]: c for c in await self._own_clusters()}
        if spec.get("suspend"):
            for cluster in clusters.values():
                await self._delete_cluster(cluster)
            await self._tell("", "", {}, serving=False, suspended=True)
            return self.changed
        wanted = f"{self.name}-{_digest(spec['rayClusterConfig'])}"
        frozen = spec.get("upgradeStrategy", {}).get("type") == "None"
        if wanted not in clusters and not (active and frozen):
            clusters[wanted] = await self._create_cluster(wanted)
        if wanted != active and not (active and frozen):
            pending = wanted
        for name in (active, pending):
            if name in clusters:
                clusters[name] = await self._run_cluster(clusters[name], starts=name != active)
        serving = self.stage is Stage.SERVING and _is_provisioned(clusters.get(pending or active, {}))
        self.rolls_back = bool(active and pending) and wanted == active
        if self.rolls_back and not self.share:
            pending, self.rolls_back = "", False
        if pending and serving and not self.rolls_back and self.share in (None, 100):
            active, pending = pending, ""
            await self._ensure_services()
        for name, cluster in clusters.items():
            if name not in (active, pending):
                await self._delete_cluster(cluster)
        await self._tell(active, pending, clusters, serving=serving or bool(active and pending))
        return self.changed

    async def _own_clusters(self) -> list[Document]:
        return await self.kube.items(
            f"{self.path}/rayclusters", f"ray.io/originated-from-cr-name={self.name}"
        )

    async def _create_cluster(self, name: str) -> Document:
        self.changed = True
        return await self.kube.create(
            f"{self.path}/rayclusters",
            {
                "apiVersion": "ray.io/v1",
                "kind": "RayCluster",
                "metadata": {
                    "name": name,
                    "labels": {
                        "ray.io/originated-from-crd": "RayService",
                        "ray.io/originated-from-cr-name": self.name,
                    },
                    "ownerReferences": [_owner(self.service)],
                },
                "spec": self.service["spec"]["rayClusterConfig"],
            },
        )

    async def _delete_cluster(self, cluster: Document) -> None:
        self.changed = True
        for pod in await self._pods(cluster):
            await self._end_pod(pod)
        await self.kube.delete(f"{self.path}/rayclusters/{cluster['metadata']['name']}")

    async def _run_cluster(self, cluster: Document, *, starts: bool) -> Document:
        """Its pods as the spec and the stage want them, and its status after them."""
        wanted = self._wanted_pods(cluster)
        found = {pod["metadata"]["name"]: pod for pod in await self._pods(cluster)}
        for name in found.keys() - wanted.keys():
            await self._end_pod(found.pop(name))
            self.changed = True
        held_back = starts and self.stage is Stage.PENDING
        for name, pod in wanted.items():
            path = f"/api/v1/namespaces/{self.namespace}/pods"
            if name not in found:
                await self.kube.create(path, pod)
                self.changed = True
            is_running = found.get(name, {}).get("status", {}).get("phase") == "Running"
            is_worker = pod["metadata"]["labels"]["ray.io/node-type"] == "worker"
            if not is_running or name not in found:
                status = self._unscheduled() if held_back and is_worker else self._running(pod)
                if found.get(name, {}).get("status") != status:
                    await self.kube.merge(f"{path}/{name}/status", {"status": status})
                    self.changed = True
        workers = sum(pod["metadata"]["labels"]["ray.io/node-type"] == "worker" for pod in wanted.values())
        ready = 0 if held_back else workers
        status = {
            "desiredWorkerReplicas": workers,
            "readyWorkerReplicas": ready,
            "availableWorkerReplicas": ready,
            "observedGeneration": cluster["metadata"]["generation"],
            "conditions": [
                self._condition(cluster, "HeadPodReady", "True", "HeadPodRunningAndReady"),
                self._condition(
                    cluster,
                    "RayClusterProvisioned",
                    "False" if held_back else "True",
                    "RayClusterPodsProvisioning" if held_back else "AllPodRunningAndReadyFirstTime",
                ),
            ],
        }
        if not held_back:
            status["state"] = "ready"
        return await self._write_status("rayclusters", cluster, status)

    def _wanted_pods(self, cluster: Document) -> dict[str, Document]:
        name, spec = cluster["metadata"]["name"], cluster["spec"]
        head = spec["headGroupSpec"]
        pods = {f"{name}-head": self._pod(cluster, f"{name}-head", "head", "headgroup", head["template"])}
        for group in spec.get("workerGroupSpecs", []):
            count = self.ray.workers.get(self.name, self._replicas())
            for number in range(count * group.get("numOfHosts", 1)):
                pod = f"{name}-{group['groupName']}-worker-{number}"
                pods[pod] = self._pod(cluster, pod, "worker", group["groupName"], group["template"])
        return pods

    def _replicas(self) -> int:
        """What Serve asks for, which Ray's autoscaler then asks pods for."""
        config = yaml.safe_load(self.service["spec"]["serveConfigV2"])
        return sum(
            options.get("num_replicas", options.get("autoscaling_config", {}).get("initial_replicas", 1))
            for application in config["applications"]
            for options in application["deployments"]
        )

    def _pod(self, cluster: Document, name: str, kind: str, group: str, template: Document) -> Document:
        metadata = template.get("metadata", {})
        labels = {
            "ray.io/cluster": cluster["metadata"]["name"],
            "ray.io/node-type": kind,
            "ray.io/group": group,
            "ray.io/is-ray-node": "yes",
        }
        return {
            "metadata": {
                "name": name,
                "labels": {**metadata.get("labels", {}), **labels},
                "annotations": metadata.get("annotations", {}),
                "ownerReferences": [_owner(cluster)],
            },
            "spec": template["spec"],
        }

    async def _pods(self, cluster: Document) -> list[Document]:
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return await self.kube.items(path, f"ray.io/cluster={cluster['metadata']['name']}")

    async def _end_pod(self, pod: Document) -> None:
        await self.kube.delete(f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}")

    async def _ensure_services(self) -> None:
        for suffix in ("serve-svc", "head-svc"):
            path, name = f"/api/v1/namespaces/{self.namespace}/services", f"{self.name}-{suffix}"
            if (await self.kube.ask("GET", f"{path}/{name}")).status == 404:
                spec = {"ports": [{"name": "serve", "port": 8000, "protocol": "TCP"}]}
                metadata = {"name": name, "ownerReferences": [_owner(self.service)]}
                await self.kube.create(path, {"metadata": metadata, "spec": spec})
                self.changed = True

    async def _tell(
        self,
        active: str,
        pending: str,
        clusters: dict[str, Document],
        *,
        serving: bool,
        suspended: bool = False,
    ) -> None:
        is_upgrade = bool(active and pending)
        ready_reason = (
            "Initializing" if not active else "NonZeroServeEndpoints" if serving else "ZeroServeEndpoints"
        )
        upgrade_reason = (
            "BothActivePendingClustersExist"
            if is_upgrade
            else "NoPendingCluster"
            if active
            else "Initializing"
        )
        conditions = [
            self._condition(self.service, "Ready", str(bool(active and serving)), ready_reason),
            self._condition(self.service, "UpgradeInProgress", str(is_upgrade), upgrade_reason),
        ]
        if self.rolls_back:
            conditions.append(
                self._condition(self.service, "RollbackInProgress", "True", "GoalClusterChanged")
            )
        if suspended:
            conditions.append(self._condition(self.service, "Suspended", "True", "UserRequestedSuspend"))
        status = {
            "observedGeneration": self.service["metadata"]["generation"],
            "serviceStatus": "Running" if active and serving else "",
            "numServeEndpoints": _workers(clusters.get(active, {})) if active and serving else 0,
            "conditions": conditions,
            "activeServiceStatus": self._of_cluster(active, clusters, "RUNNING" if serving else None),
            "pendingServiceStatus": self._of_cluster(pending, clusters, None),
        }
        if is_upgrade and self.share is not None:
            status["activeServiceStatus"]["trafficRoutedPercent"] = 100 - self.share
            status["pendingServiceStatus"]["trafficRoutedPercent"] = self.share
        await self._write_status("rayservices", self.service, status)

    def _of_cluster(self, name: str, clusters: dict[str, Document], state: str | None) -> Document:
        if not name:
            return {}
        told: Document = {"rayClusterName": name}
        cluster = clusters.get(name, {}).get("status", {})
        told["rayClusterStatus"] = cluster
        if state is None and self.stage is not Stage.PENDING:
            state = "DEPLOY_FAILED" if self.stage is Stage.FAILED else "DEPLOYING"
        if state is not None:
            message = "the engine ended with status 1" if state == "DEPLOY_FAILED" else ""
            told["applicationStatuses"] = {"engine": {"status": state, "message": message}}
        return told

    async def _write_status(self, plural: str, body: Document, status: Document) -> Document:
        path = f"{self.path}/{plural}/{body['metadata']['name']}/status"
        if body.get("status") == status:
            return body
        self.changed = True
        return await self.kube.replace(
            path, {**body, "metadata": {"name": body["metadata"]["name"]}, "status": status}
        )

    def _condition(self, body: Document, kind: str, status: str, reason: str) -> Document:
        known = {c["type"]: c for c in body.get("status", {}).get("conditions", [])}.get(kind, {})
        since = known["lastTransitionTime"] if known.get("status") == status else self._stamp()
        return {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": since}

    def _running(self, pod: Document) -> Document:
        since = self._stamp()
        return {
            "phase": "Running",
            "startTime": since,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": container["name"], "state": {"running": {"startedAt": since}}}
                for container in pod["spec"]["containers"]
            ],
        }

    @staticmethod
    def _unscheduled() -> Document:
        message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        return {"phase": "Pending", "conditions": [condition]}

    def _stamp(self) -> str:
        return self.ray.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _digest(cluster: Document) -> str:
    """As KubeRay takes it: a cluster of another one is another cluster."""
    groups = [
        {name: value for name, value in group.items() if name not in MUTED}
        for group in cluster.get("workerGroupSpecs", [])
    ]
    text = json.dumps({**cluster, "workerGroupSpecs": groups}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:5]


def _cluster_name(status: Document, which: str) -> str:
    return str(status.get(f"{which}ServiceStatus", {}).get("rayClusterName", ""))


def _is_provisioned(cluster: Document) -> bool:
    return bool(cluster.get("status", {}).get("state") == "ready")


def _workers(cluster: Document) -> int:
    return int(cluster.get("status", {}).get("readyWorkerReplicas", 0))


def _owner(body: Document) -> dict[str, Any]:
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
