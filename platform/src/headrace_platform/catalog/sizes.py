"""How a replica can be divided over GPUs, whatever the memory says."""

from collections.abc import Iterator
from dataclasses import dataclass

from headrace_platform.catalog.profiles import Backend, Profile
from headrace_platform.catalog.shape import Shape

# Beyond that a replica is a cluster of its own, which nobody has shown to work for these models.
NODES_MAX = 4


class DoesNotFit(Exception):
    """The model can't run like that on this profile; the message says why."""

    code = "does_not_fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How a replica is divided over GPUs."""

    tensor: int = 1
    """GPUs that share each layer."""
    pipeline: int = 1
    """Groups of those that have some of the layers each."""
    data: int = 1
    """Copies of all but the experts inside one replica, each with requests of its own."""
    expert: bool = False
    """Spread the experts whole over the GPUs, also where the record does not say so."""

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data


def sizes_to_try(shape: Shape, profile: Profile) -> Iterator[Sizes]:
    """From one GPU up to several nodes: tensor groups as large as a node allows before layers are divided."""
    tensor = largest = 1
    while tensor <= profile.gpus_a_node:
        if shape.attention.heads % tensor == 0:
            largest = tensor
            yield Sizes(tensor=tensor)
        tensor *= 2
    if profile.backend is Backend.CPU:
        yield Sizes()
        return
    for nodes in range(2, NODES_MAX + 1):
        yield Sizes(tensor=largest, pipeline=nodes)


def expect_divisible(shape: Shape, profile: Profile, sizes: Sizes) -> None:
    """Raises `DoesNotFit` for sizes that no engine could run."""
    heads = shape.attention.heads
    if sizes.gpus > 1 and profile.backend is Backend.CPU:
        raise DoesNotFit(f"{profile.name} is one device, not {sizes.gpus}")
    if heads % sizes.tensor:
        raise DoesNotFit(f"{heads} attention heads can't be shared out over {sizes.tensor} GPUs")
    if sizes.tensor > max(1, profile.gpus_a_node):
        raise DoesNotFit(
            f"a tensor group of {sizes.tensor} GPUs does not fit on a node of {profile.gpus_a_node}"
        )
    if sizes.pipeline > shape.layers:
        raise DoesNotFit(f"{shape.layers} layers can't be shared out over {sizes.pipeline} groups")
    if sizes.data > 1:
        if shape.experts is None:
            raise DoesNotFit(
                "it has no experts to share out over data-parallel ranks; run more replicas instead"
            )
        if sizes.gpus > profile.gpus_a_node:
            raise DoesNotFit(
                f"data-parallel ranks run on one node; {sizes.gpus} GPUs are more than its {profile.gpus_a_node}"
            )
