"""What the programs of a stack are told, and what of the caller's own settings they are told beside it."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from headrace_gateway.guardrails.guards import PlugIn
from headrace_gateway.settings import GatewaySettings
from headrace_platform.local.layout import Wishes, decide
from headrace_platform.local.programs import Blueprint
from headrace_platform.local.python_module import PythonModule
from headrace_platform.local.state import State, Upstream

ELSEWHERE = Upstream(url="http://127.0.0.1:9000", model="glm-4.6")
WRITTEN = (
    '[{"plugin": "headrace_gateway.guardrails.patterns:Patterns", "options": {"file": "patterns.toml"}}]'
)


def told(module: PythonModule, log: Path) -> dict[str, str]:
    with log.open("wb") as file:
        process = module.start(file)
    # It stops once it runs its program: before that it has no environment yet.
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    environment = psutil.Process(process.pid).environ()
    process.kill()
    process.wait(10)
    return environment


def test_the_gateway_has_the_guardrails_that_the_caller_s_environment_names(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_GATEWAY_GUARDRAILS", WRITTEN)
    layout = decide(None, Wishes(upstream=ELSEWHERE), alive=set(), is_free=lambda _: True)
    blueprint = Blueprint(
        state=state,
        layout=layout,
        secrets=state.secrets(),
        services_python=Path(sys.executable),
        engine_python=None,
    )
    gateway = next(program for program in blueprint.programs() if program.name == "gateway").server
    assert isinstance(gateway, PythonModule)
    state.folder("gateway")
    environment = told(dataclasses.replace(gateway, arguments=("http.server", "--help")), tmp_path / "log")

    monkeypatch.setattr(os, "environ", environment)
    assert GatewaySettings.from_environment().guardrails == (
        PlugIn("headrace_gateway.guardrails.patterns:Patterns", {"file": "patterns.toml"}),
    )
