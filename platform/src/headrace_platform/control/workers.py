"""What a deployment's pods tell: how many serve, which accelerators they hold, and what keeps them from starting. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from headrace_platform.control.environment import Environment
from headrace_platform.control.labels import Manifest

MESSAGE_CHARACTERS_MAX = 500

# What the kubelet says when a container can't start for want of something that its owner has to mend.
STUCK = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)
OF_THE_SOURCE = ("persistentvolumeclaim", "volume node affinity", "secret ")


class Hindrance(StrEnum):
    """Also the reason of the condition that it makes false."""

    UNSCHEDULABLE = "Unschedulable"  # no node has room
    WEIGHTS_UNAVAILABLE = "WeightsUnavailable"  # a claim, a secret or the fetch of the weights
    CONTAINER_FAILING = "ContainerFailing"  # the image or the engine


@dataclass(frozen=True, slots=True)
class Workers:
    """The worker pods that have not ended."""

    pods: int = 0
    ready: int = 0
    accelerators: int = 0
    """Held: of pods that a node has taken."""
    has_weights: bool = False
    """Some worker has got past fetching them."""
    hindrances: tuple[tuple[Hindrance, str], ...] = ()
    """One of each kind, with what Kubernetes says."""


def workers(pods: Iterable[Manifest], resource_names: Collection[str]) -> Workers:
    alive = [pod for pod in pods if not has_ended(pod) and "deletionTimestamp" not in pod["metadata"]]
    hindrances: dict[Hindrance, str] = {}
    for pod in alive:
        for hindrance, message in _hindrances(pod):
            hindrances.setdefault(hindrance, message[:MESSAGE_CHARACTERS_MAX])
    return Workers(
        pods=len(alive),
        ready=sum(_is_ready(pod) for pod in alive),
        accelerators=sum(accelerators(pod, resource_names) for pod in alive if is_placed(pod)),
        has_weights=any(pod.get("status", {}).get("phase") == "Running" for pod in alive),
        hindrances=tuple(sorted(hindrances.items())),
    )


def has_ended(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_placed(pod: Manifest) -> bool:
    """Whether a node's kubelet has taken the pod, and with it the accelerators."""
    return "startTime" in pod.get("status", {})


def accelerators(pod: Manifest, resource_names: Collection[str]) -> int:
    """That the pod's containers ask for, under any of these names; they never share one."""
    return sum(
        int(count)
        for container in pod["spec"]["containers"]
        for name, count in container.get("resources", {}).get("limits", {}).items()
        if name in resource_names
    )


def resource_names(environment: Environment) -> frozenset[str]:
    """What pods ask for accelerators by, in any profile."""
    profiles = environment.gpu_profiles.values()
    return frozenset(profile.resource_name for profile in profiles if profile.resource_name is not None)


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _hindrances(pod: Manifest) -> Iterator[tuple[Hindrance, str]]:
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition.get("message", "")
            yield _place_or_source(message), f"{name}: {message}"
    for container in status.get("initContainerStatuses", []):
        if said := _stuck(container):
            yield Hindrance.WEIGHTS_UNAVAILABLE, f"{name}: {container['name']}: {said}"
    for container in status.get("containerStatuses", []):
        if said := _stuck(container):
            yield Hindrance.CONTAINER_FAILING, f"{name}: {container['name']}: {said}"


def _place_or_source(message: str) -> Hindrance:
    lowered = message.lower()
    if any(sign in lowered for sign in OF_THE_SOURCE):
        return Hindrance.WEIGHTS_UNAVAILABLE
    return Hindrance.UNSCHEDULABLE


def _stuck(container: Manifest) -> str:
    """Why a container can't run, where that is not a matter of waiting; empty otherwise."""
    waiting = container.get("state", {}).get("waiting", {})
    if waiting.get("reason") not in STUCK:
        return ""
    last = container.get("lastState", {}).get("terminated", {})
    said = last.get("message") or waiting.get("message", "")
    return f"{waiting['reason']}: {said}"
