"""Run in the engine's environment: a local Ray that is handed a Serve configuration as KubeRay hands it one.

KubeRay puts `serveConfigV2` to Ray's dashboard, which calls `deploy_apps` with it. Here there is no dashboard.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from headrace_platform.catalog.serve import APPLICATION
from headrace_platform.serving.environment import COLLECTS_METRICS, prepare_head
from headrace_platform.serving.session import session_folder
from headrace_platform.serving.settings import EngineSettings

# What an application is before it runs, or is given up.
STARTING = ("NOT_STARTED", "DEPLOYING")
LOOK_SECONDS = 0.5

# A file in the state folder that holds it.
METRICS_PORT = "metrics-port"


def main() -> None:
    settings = EngineSettings.from_environment()
    # As in a pod, where nobody switches them off; sooner, so that a test need not wait for ten seconds.
    os.environ |= {COLLECTS_METRICS: "1", "RAY_metrics_report_interval_ms": "1000"}
    prepare_head(settings)
    Path(os.environ["RAY_AUTH_TOKEN_PATH"]).write_text("a" * 64)
    config = json.loads(Path(sys.argv[1]).read_text())
    stop = threading.Event()
    with session_folder(settings.state_dir) as folder:
        import ray  # noqa: PLC0415  (reads its environment when imported)
        from ray import serve  # noqa: PLC0415
        from ray.serve.context import _get_global_client  # noqa: PLC0415
        from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=settings.object_store_bytes,
            namespace="serve",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
        )
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        try:
            serve.start(http_options={"host": settings.host, "port": settings.port, "location": "HeadOnly"})
            _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)
            while (state := serve.status().applications.get(APPLICATION)) is None or state.status in STARTING:
                if stop.wait(LOOK_SECONDS):
                    return
            assert state.status == "RUNNING", state
            url = f"http://{settings.host}:{settings.port}"
            (node,) = ray.nodes()
            (settings.state_dir / METRICS_PORT).write_text(str(node["MetricsExportPort"]))
            ready = {"ready": True, "url": url, "model": settings.model, "pid": os.getpid()}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            stop.wait()
        finally:
            serve.shutdown()
            ray.shutdown()


if __name__ == "__main__":
    main()
