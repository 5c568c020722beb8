"""`python -m headrace_platform.serving`: Ray, Serve and the model on this machine, until SIGTERM.

Prints one line of JSON when the first request can be answered. On Kubernetes KubeRay does what this does, and
runs the same application.
"""

import json
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import structlog

from headrace_platform.catalog import models
from headrace_platform.catalog.placement import place
from headrace_platform.catalog.profiles import LOCAL_CPU
from headrace_platform.catalog.serve import APPLICATION, Scaling, serve_config
from headrace_platform.serving.arguments import more_arguments
from headrace_platform.serving.environment import prepare_head
from headrace_platform.serving.session import session_folder
from headrace_platform.serving.settings import EngineSettings
from headrace_telemetry.logs import configure_logs

log = structlog.get_logger()


def main() -> None:
    began = time.monotonic()
    configure_logs("engine")
    settings = EngineSettings.from_environment()
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    prepare_head(settings)
    keep_token(Path(os.environ["RAY_AUTH_TOKEN_PATH"]))
    with session_folder(settings.state_dir) as folder:
        serve_until_told(settings, folder, began)


def serve_until_told(settings: EngineSettings, folder: Path, began: float) -> NoReturn:
    import ray  # noqa: PLC0415 (reads its environment when imported)
    from ray import serve  # noqa: PLC0415

    from headrace_platform.serving.application import configured  # noqa: PLC0415

    def note(event: str) -> None:
        log.info(event, seconds=round(time.monotonic() - began, 1))

    leave_cleanly_on_signals()
    try:
        ray.init(
            address="local",
            num_cpus=settings.ray_cpus,
            include_dashboard=False,
            object_store_memory=settings.object_store_bytes,
            namespace="headrace",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
        )
        # Again, for Ray has just set its own.
        leave_cleanly_on_signals()
        note("ray_started")
        config = local_config(settings)
        serve.start(http_options={**config["http_options"], "location": config["proxy_location"]})
        note("serve_started")
        serve.run(configured(config), name=APPLICATION, route_prefix="/")
        note("engine_ready")
        announce(settings)
        threading.Event().wait()
    finally:
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
        note("engine_stopped")
    raise AssertionError("an event that nobody sets was set")


def local_config(settings: EngineSettings) -> dict[str, Any]:
    """What KubeRay would hand to Serve, for this machine."""
    record = models.find(settings.model)
    placement = place(record, LOCAL_CPU)
    scaling = Scaling(
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
        target_ongoing=settings.target_ongoing,
        max_ongoing=settings.max_ongoing,
        max_queued=settings.max_queued,
        upscale_delay_seconds=settings.upscale_delay_seconds,
        downscale_delay_seconds=settings.downscale_delay_seconds,
        drain_seconds=settings.drain_seconds,
    )
    return serve_config(
        record,
        LOCAL_CPU,
        placement,
        scaling,
        deployment=settings.deployment or record.id,
        host=settings.host,
        port=settings.port,
        proxies="HeadOnly",
        more_arguments=more_arguments(records_url=settings.records_url),
    )


def announce(settings: EngineSettings) -> None:
    ready = {
        "ready": True,
        "url": f"http://{settings.host}:{settings.port}",
        "model": settings.model,
        "pid": os.getpid(),
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def leave_cleanly_on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def leave(*_: Any) -> NoReturn:
    """Ends the process by way of its clean-up, which a second signal must not cut short."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(0)


def keep_token(path: Path) -> None:
    """Makes the token that Ray's processes ask of one another; one per state folder, for its owner's eyes."""
    if not path.exists():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as writer:
            writer.write(secrets.token_hex(32))


if __name__ == "__main__":
    main()
