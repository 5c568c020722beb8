"""What one replica of an engine may run on: kinds of GPU, and the CPU of the machine that tries Headrace out."""

import tomllib
from enum import StrEnum
from pathlib import Path

import msgspec

from headrace_platform.catalog.record import Format, Strict


class Backend(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"


class Tuning(Strict, frozen=True, kw_only=True):
    """How an engine is set up on the profile, where that does not follow from the model."""

    dtype: str = "auto"
    """Of what is computed; the weights' own by default."""
    kv_cache_bytes: int | None = None
    """Given where there is no memory of its own that an engine could take a share of."""
    block_tokens: int | None = None
    """Tokens of a block of the key-value cache; vLLM's choice by default, as some kernels take one size alone."""
    sequences_max: int = 256
    """Requests that the engine works on together at most; the rest waits inside it. vLLM's default on GPUs."""
    batched_tokens_max: int = 8192
    """Prompt and output tokens of one step, which bounds how long a step can be. vLLM's default on GPUs."""
    eager: bool = False
    replica_cpus: float = 4.0
    """For Ray's placement alone: the server app, the engine's scheduler and its tokenizer each want a core."""
    health_check_period_seconds: float = 10.0
    health_check_timeout_seconds: float = 30.0
    """A scheduler that works on a long prompt answers late, and must not be killed for that."""


class Profile(Strict, frozen=True, kw_only=True):
    name: str
    backend: Backend
    generation: str
    memory_gb: int
    """Of one GPU."""
    gpus_a_node: int
    formats: dict[Format, bool]
    """Weights that it can compute with; a format that is missing is one of which nobody knows."""
    sparse_attention: bool | None = None
    """Whether vLLM's kernels for sparse attention run on it."""
    engine: Tuning = Tuning()
    id: str = ""

    @property
    def kinds(self) -> tuple[str, str, str]:
        """Under which a record may speak of it, the widest first."""
        return (self.backend, self.generation, self.id)


class ProfileUnknown(KeyError):
    """No profile has this name."""

    code = "profile_unknown"


def read_profiles(path: Path) -> dict[str, Profile]:
    tables = tomllib.loads(path.read_text())
    return {name: msgspec.convert({**table, "id": name}, Profile) for name, table in tables.items()}


PROFILES = read_profiles(Path(__file__).parent / "profiles.toml")


def find_profile(name: str) -> Profile:
    """The profile of this name. Raises `ProfileUnknown`."""
    if name not in PROFILES:
        raise ProfileUnknown(name)
    return PROFILES[name]


LOCAL_CPU = find_profile("local-cpu")
