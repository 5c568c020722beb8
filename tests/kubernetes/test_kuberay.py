"""KubeRay's double goes through the states that the real one has."""

import pytest

from tests.support.kubernetes.api_server import ApiServer
from tests.support.kubernetes.client import Kubectl
from tests.support.kubernetes.kinds import Document, Kind
from tests.support.kubernetes.kuberay import KubeRay, Stage

SERVICES = "/apis/ray.io/v1/namespaces/shop/rayservices"
CONFIG = "applications: [{name: engine, deployments: [{name: vllm, num_replicas: 2}]}]"


def service(image: str = "one", **spec: object) -> Document:
    template = {"spec": {"containers": [{"name": "ray", "image": image}]}}
    return {
        "metadata": {"name": "chat"},
        "spec": {
            "serveConfigV2": CONFIG,
            "rayClusterConfig": {
                "headGroupSpec": {"template": template},
                "workerGroupSpecs": [{"groupName": "gpu", "numOfHosts": 2, "template": template}],
            },
            **spec,
        },
    }


@pytest.fixture
def ray(server: ApiServer, kube: Kubectl) -> KubeRay:
    for plural, kind in (("rayservices", "RayService"), ("rayclusters", "RayCluster")):
        server.store.kinds.append(Kind("ray.io", "v1", plural, kind, has_status=True))
    return KubeRay(kube)


async def conditions(kube: Kubectl) -> dict[str, str]:
    status = (await kube.get(f"{SERVICES}/chat"))["status"]
    return {condition["type"]: condition["reason"] for condition in status["conditions"]}


async def test_a_service_comes_up_in_stages(kube: Kubectl, ray: KubeRay) -> None:
    await kube.create(SERVICES, service())
    ray.stages["chat"] = Stage.PENDING
    await ray.settle()
    pods = await kube.items("/api/v1/namespaces/shop/pods", "ray.io/node-type=worker")
    assert [pod["status"]["phase"] for pod in pods] == ["Pending"] * 4
    ray.stages["chat"] = Stage.CLUSTER_READY
    await ray.settle()
    status = (await kube.get(f"{SERVICES}/chat"))["status"]
    assert status["pendingServiceStatus"]["rayClusterStatus"]["state"] == "ready"
    assert (await conditions(kube))["Ready"] == "Initializing"
    ray.stages["chat"] = Stage.SERVING
    await ray.settle()
    assert await conditions(kube) == {
        "Ready": "NonZeroServeEndpoints",
        "UpgradeInProgress": "NoPendingCluster",
    }
    assert await kube.get("/api/v1/namespaces/shop/services/chat-serve-svc")


async def test_another_pod_template_makes_a_second_cluster_which_takes_over_when_it_serves(
    kube: Kubectl, ray: KubeRay
) -> None:
    await kube.create(SERVICES, service())
    await ray.settle()
    ray.stages["chat"] = Stage.CLUSTER_READY
    await kube.merge(f"{SERVICES}/chat", service("two"))
    await ray.settle()
    assert (await conditions(kube))["UpgradeInProgress"] == "BothActivePendingClustersExist"
    assert (await conditions(kube))["Ready"] == "NonZeroServeEndpoints"
    ray.stages["chat"] = Stage.SERVING
    await ray.settle()
    (cluster,) = await kube.items("/apis/ray.io/v1/namespaces/shop/rayclusters")
    assert cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == "two"


async def test_a_suspended_service_gives_its_pods_back_and_a_deleted_one_everything(
    kube: Kubectl, ray: KubeRay
) -> None:
    await kube.create(SERVICES, service())
    await ray.settle()
    await kube.merge(f"{SERVICES}/chat", {"spec": {"suspend": True}})
    await ray.settle()
    assert await kube.items("/api/v1/namespaces/shop/pods") == []
    await kube.merge(f"{SERVICES}/chat", {"spec": {"suspend": False}})
    await ray.settle()
    await kube.delete(f"{SERVICES}/chat")
    for path in ("/api/v1/namespaces/shop/pods", "/api/v1/namespaces/shop/services"):
        assert await kube.items(path) == []
