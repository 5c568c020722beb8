"""Programs that others relay requests by, each with a small configuration of ours; measured where they are installed.

They do less than the gateway does: none of them counts tokens against a wallet, and most ask for no key.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.engine import MODEL

from headrace_platform.local.ports import HOST, unused_port

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".venv-peers"

NGINX = """\
worker_processes 1;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  keepalive_requests 10000000;
  upstream engine {{
    server {host}:{engine_port};
    keepalive 256;
    keepalive_requests 10000000;
  }}
  server {{
    listen {host}:{port} backlog=1024;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://{host}:{engine_port}/v1
      api_key: unused
general_settings:
  master_key: {secret}
litellm_settings:
  telemetry: false
  num_retries: 0
"""

SECRET = "sk-bench"  # noqa: S105 - of a program that runs for minutes, on the loopback address


@dataclass(frozen=True, slots=True)
class Command:
    arguments: tuple[str, ...]
    environment: dict[str, str]
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    does: str
    """What is on, for whoever compares."""
    brought_by: str
    """The command that installs it."""
    program: Callable[[], str | None]
    """Its executable; null where it is not installed."""
    version: Callable[[str], str]
    command: Callable[[str, Path, int, int], Command]
    """From its executable, a folder of its own, its port and the engine's."""
    streams: bool = True
    """Whether it keeps up with the streams of a run."""
    ready_seconds: float = 30.0


def _nginx(program: str, folder: Path, port: int, engine_port: int) -> Command:
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, host=HOST, port=port, engine_port=engine_port))
    return Command((program, "-c", str(path), "-e", str(folder / "nginx-error.log")), {})


def _vllm_router(program: str, folder: Path, port: int, engine_port: int) -> Command:  # noqa: ARG001 - a peer's
    arguments = (
        *(program, "--host", HOST, "--port", str(port)),
        *("--worker-urls", f"http://{HOST}:{engine_port}", "--policy", "round_robin"),
        *("--prometheus-port", str(unused_port()), "--log-level", "error"),
    )
    return Command(arguments, {})


def _litellm(program: str, folder: Path, port: int, engine_port: int) -> Command:
    path = folder / "litellm.yaml"
    path.write_text(LITELLM.format(model=MODEL, host=HOST, engine_port=engine_port, secret=SECRET))
    arguments = (program, "--config", str(path), "--host", HOST, "--port", str(port), "--num_workers", "1")
    environment = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the other one is fetched from the network
        "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return Command(arguments, environment, (("authorization", f"Bearer {SECRET}"),))


def _portkey(program: str, folder: Path, port: int, engine_port: int) -> Command:  # noqa: ARG001 - a peer's
    node = shutil.which("node") or "node"
    headers = (
        ("authorization", f"Bearer {SECRET}"),
        ("x-portkey-provider", "openai"),
        ("x-portkey-custom-host", f"http://{HOST}:{engine_port}/v1"),
    )
    return Command((node, program, "--headless", f"--port={port}"), {"NODE_ENV": "production"}, headers)


def _installed(path: str) -> Callable[[], str | None]:
    return lambda: str(INSTALLED / path) if (INSTALLED / path).exists() else None


def _distribution(name: str) -> Callable[[str], str]:
    """The version of a Python package, as the interpreter beside the program knows it."""

    def version(program: str) -> str:
        asking = f"from importlib.metadata import version; print(version({name!r}))"
        return _said([str(Path(program).parent / "python"), "-c", asking])

    return version


def _nginx_version(program: str) -> str:
    return _said([program, "-v"]).rpartition("/")[2].split()[0]


def _portkey_version(program: str) -> str:
    package = Path(program).parents[1] / "package.json"
    return str(json.loads(package.read_text())["version"])


def _said(command: list[str]) -> str:
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.strip()


PEERS = (
    Peer(
        name="nginx",
        does="a reverse proxy and nothing else",
        brought_by="apt-get install nginx-light, or your system's",
        program=lambda: shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin"),
        version=_nginx_version,
        command=_nginx,
    ),
    Peer(
        name="vllm-router",
        does="round robin, retries, breaker, metrics; no key, no limits, no counting",
        brought_by="make bench-peers",
        program=_installed("bin/vllm-router"),
        version=_distribution("vllm-router"),
        command=_vllm_router,
    ),
    Peer(
        name="litellm",
        does="one master key, routing, cost callbacks; no database, so no limits",
        brought_by="make bench-peers LITELLM=1",
        program=_installed("litellm/bin/litellm"),
        version=_distribution("litellm"),
        command=_litellm,
        streams=False,
        ready_seconds=180.0,
    ),
    Peer(
        name="portkey",
        does="routing by headers; no key, no limits",
        brought_by="make bench-peers PORTKEY=1",
        program=_installed("portkey/node_modules/@portkey-ai/gateway/build/start-server.js"),
        version=_portkey_version,
        command=_portkey,
        streams=False,
        ready_seconds=60.0,
    ),
)
