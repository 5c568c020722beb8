"""The command `headrace` as people and scripts meet it."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner, Result

from headrace_platform.local import processes
from headrace_platform.local.cli import app, base_url
from headrace_platform.local.layout import Wishes, decide
from headrace_platform.local.problems import DiskFull
from headrace_platform.local.stack import Stack
from headrace_platform.local.state import State
from tests.support.programs import SLEEP, TinyServer

STATUS_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["ready", "state", "gateway_url", "billing_url", "model", "programs"],
    "properties": {
        "ready": {"type": "boolean"},
        "state": {"type": "string"},
        "gateway_url": {"type": ["string", "null"]},
        "billing_url": {"type": ["string", "null"]},
        "model": {"type": ["string", "null"]},
        "programs": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "condition", "pid", "port", "url", "uptime_seconds", "log"],
                "properties": {
                    "name": {"type": "string"},
                    "condition": {"enum": ["ready", "not_ready", "dead", "stopped"]},
                    "pid": {"type": ["integer", "null"]},
                    "port": {"type": ["integer", "null"]},
                    "url": {"type": ["string", "null"]},
                    "uptime_seconds": {"type": ["number", "null"]},
                    "log": {"type": "string"},
                },
            },
        },
    },
}


def headrace(*arguments: object, **environment: str) -> Result:
    # A terminal of any width and colour must not matter to what is said.
    fixed = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=fixed | environment)


@pytest.fixture
def known(state: State) -> State:
    """A state that was started once, of which nothing runs."""
    state.keep_layout(decide(None, Wishes(), alive=set()))
    return state


def run_as(state: State, program: str) -> None:
    """Starts a small process in the place of `program`."""
    server = TinyServer(SLEEP, state.folder(program), processes.marks(state, program))
    with state.log(program).open("ab") as log:
        process = server.start(log)
    processes.keep(state, program, process)


def test_status_as_json_is_what_scripts_rely_on(known: State) -> None:
    run_as(known, "gateway")
    run_as(known, "billing-worker")
    processes.kill_program(known, "billing-worker")

    said = headrace("status", "--json", "--state", known.root)

    status = json.loads(said.stdout)
    jsonschema.validate(status, STATUS_SCHEMA)
    assert said.exit_code == 1, "not all of it is ready"
    conditions = {program["name"]: program["condition"] for program in status["programs"]}
    assert conditions == {
        "postgres": "stopped",
        "valkey": "stopped",
        "billing-api": "stopped",
        "billing-worker": "dead",
        "engine": "stopped",
        "gateway": "not_ready",
    }


def test_status_of_what_was_never_started_is_valid_too(tmp_path: Path) -> None:
    said = headrace("status", "--json", "--state", tmp_path / "none")
    jsonschema.validate(json.loads(said.stdout), STATUS_SCHEMA)
    assert said.exit_code == 1
    assert not (tmp_path / "none").exists(), "to look is not to touch"


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["doctor"], ["logs"]])
def test_no_secret_is_ever_shown(known: State, command: list[str]) -> None:
    secrets = known.secrets()
    known.log("gateway").write_text(f"connecting to redis://:{secrets.valkey_password}@127.0.0.1:1/0\n")
    said = headrace(*command, "--state", known.root)
    assert said.output
    for secret in (secrets.valkey_password, secrets.postgres_password, secrets.admin_token):
        assert secret not in said.output


def test_a_missing_engine_is_named_with_what_to_do(tmp_path: Path) -> None:
    said = headrace("up", "--state", tmp_path / "state", HEADRACE_ENGINE_PYTHON="/nonexistent/python")
    assert said.exit_code == 1
    assert "/nonexistent/python" in said.stderr
    assert "make setup" in said.stderr
    assert processes.family(State.at(tmp_path / "state")) == []


def test_a_port_that_was_asked_for_and_is_taken_is_named_with_its_holder(
    tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    with socket.create_server(("127.0.0.1", port)):
        said = headrace("up", "--state", tmp_path / "state", "--gateway-port", port)
    assert said.exit_code == 1
    assert f"Port {port}" in said.stderr
    assert f"pid {os.getpid()}" in said.stderr
    assert "--gateway-port" in said.stderr
    assert processes.family(State.at(tmp_path / "state")) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", free_bytes=lambda _: 1024**2)
    with pytest.raises(DiskFull, match=r"0\.0 GiB free"):
        stack.start()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("https://llm.example/v1", "https://llm.example"),
        ("https://llm.example/base/v1/", "https://llm.example/base"),
    ],
)
def test_an_upstream_is_taken_with_or_without_its_version(given: str, base: str) -> None:
    assert base_url(given) == base


@pytest.mark.parametrize(
    "arguments",
    [
        ["--upstream", "llm.example"],
        ["--upstream-model", "glm-4.6"],
        ["--upstream", "http://llm.example", "--engine"],
        ["--gateway-port", "70000"],
        ["--gateway-workers", "0"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    assert headrace("up", "--state", tmp_path / "state", *arguments).exit_code == 2
    assert not (tmp_path / "state").exists()


def test_down_ends_everything_and_keeps_the_state(known: State) -> None:
    known.secrets()
    run_as(known, "gateway")
    run_as(known, "valkey")
    said = headrace("down", "--state", known.root)
    assert said.exit_code == 0
    assert said.output.split() == ["gateway", "stopped", "valkey", "stopped"], "in reverse"
    assert processes.family(known) == []
    assert (known.root / "secrets.json").exists()


def test_down_where_nothing_runs_is_no_error(known: State, tmp_path: Path) -> None:
    assert headrace("down", "--state", known.root).exit_code == 0
    assert headrace("down", "--state", tmp_path / "none").exit_code == 0


def test_wiping_asks_first(known: State) -> None:
    declined = CliRunner().invoke(app, ["down", "--wipe", "--state", str(known.root)], input="n\n")
    assert declined.exit_code == 1
    assert known.root.exists()
    assert headrace("down", "--wipe", "--yes", "--state", known.root).exit_code == 0
    assert not known.root.exists()


def test_a_folder_that_is_no_state_is_never_wiped(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert headrace("down", "--wipe", "--yes", "--state", tmp_path).exit_code == 1
    assert (tmp_path / "thesis.txt").exists()


def test_logs_of_an_unknown_program_name_the_known_ones(known: State) -> None:
    said = headrace("logs", "gatway", "--state", known.root)
    assert said.exit_code == 1
    assert "gateway" in said.stderr


def test_doctor_says_what_is_wrong_and_what_to_do(known: State) -> None:
    run_as(known, "gateway")
    processes.kill_program(known, "gateway")
    said = headrace("doctor", "--state", known.root, HEADRACE_ENGINE_PYTHON="/nonexistent/python")
    assert said.exit_code == 1
    assert "headrace up --upstream URL" in said.output
    assert "headrace logs gateway" in said.output
