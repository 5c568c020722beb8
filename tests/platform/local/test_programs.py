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


def server_of(state: State, program: str) -> PythonModule:
    layout = decide(None, Wishes(upstream=ELSEWHERE), alive=set(), is_free=lambda _: True)
    blueprint = Blueprint(
        state=state,
        layout=layout,
        secrets=state.secrets(),
        services_python=Path(sys.executable),
        engine_python=None,
    )
    server = next(each for each in blueprint.programs() if each.name == program).server
    assert isinstance(server, PythonModule)
    state.folder(program)
    return dataclasses.replace(server, arguments=("http.server", "--help"))


@pytest.mark.parametrize(
    ("named", "ports"),
    [({}, (None, None)), ({"HEADRACE_BILLING_METRICS_PORT": "9091"}, ("9091", "9092"))],
)
def test_billing_s_api_and_worker_are_scraped_at_ports_of_their_own(
    state: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, str],
    ports: tuple[str | None, str | None],
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    found = [
        told(server_of(state, program), tmp_path / "log").get("HEADRACE_BILLING_METRICS_PORT")
        for program in ("billing-api", "billing-worker")
    ]
    assert tuple(found) == ports


def test_the_gateway_has_the_guardrails_that_the_caller_s_environment_names(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_GATEWAY_GUARDRAILS", WRITTEN)
    environment = told(server_of(state, "gateway"), tmp_path / "log")

    monkeypatch.setattr(os, "environ", environment)
    assert GatewaySettings.from_environment().guardrails == (
        PlugIn("headrace_gateway.guardrails.patterns:Patterns", {"file": "patterns.toml"}),
    )
