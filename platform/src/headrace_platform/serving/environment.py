"""Environment variables that Ray and vLLM read: what is the same wherever the engine runs.

Set before either is imported. What the machine's owner has set already stays.
"""

import os

from headrace_contracts.deployments import STOP_STRINGS_MAX
from headrace_platform.serving.settings import EngineSettings, ReplicaSettings

QUIET = {
    # Nobody is told how this is used.
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}

VLLM = {
    # Weights come from the folder that the catalogue names; an engine looks for nothing outside.
    "HF_HUB_OFFLINE": "1",
    # The engine works in its own process, without a third one that imports vLLM once more.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The gateway lets only some hosts' images be fetched; a redirect would lead to any other.
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    # The gateway refuses more, and its clients send more than vLLM would take.
    "VLLM_MAX_STOP_STRINGS": str(STOP_STRINGS_MAX),
    "VLLM_LOGGING_LEVEL": "WARNING",
}

EAGER = {
    # Nothing is compiled in eager mode, yet the first request for logprobs would wait 26 s for the compiler.
    "TORCHDYNAMO_DISABLE": "1",
}

COLLECTS_METRICS = "RAY_enable_metrics_collection"

RAY = {
    # The cluster can run any code: whoever talks to it must know the token.
    "RAY_AUTH_MODE": "token",
    # Whatever the name says: no other machine joins, so Ray's processes listen on loopback alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # The log is a file, not a terminal.
    "RAY_COLOR_PREFIX": "0",
    # Nobody collects them here, and fixed ports would be in another stack's way.
    COLLECTS_METRICS: "0",
    "AUTOSCALER_METRIC_PORT": "0",
    "DASHBOARD_METRIC_PORT": "0",
}


def prepare_head(settings: EngineSettings) -> None:
    """For the process that starts Ray; all that Ray starts inherits it."""
    _fill({**QUIET, **RAY, "RAY_AUTH_TOKEN_PATH": str(settings.state_dir / "ray-token")})


def prepare_replica(settings: ReplicaSettings, *, eager: bool) -> None:
    _fill({**QUIET, **VLLM, **(EAGER if eager else {}), "VLLM_CACHE_ROOT": str(settings.state_dir / "vllm")})


def ray_collects_metrics() -> bool:
    """Ray does so unless it is told otherwise."""
    return os.environ.get(COLLECTS_METRICS, "1") != "0"


def _fill(values: dict[str, str]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, value)
