"""What is rendered stays as it is, byte for byte, until somebody means to change it."""

import subprocess
import sys

import pytest

from headrace_platform.control.command import documents
from headrace_platform.control.render import render
from headrace_platform.control.route import render_route
from tests.platform.control.examples import DEPLOYMENTS, ENVIRONMENT, NAMES, RENDERED, deployment, environment

AGAIN = "headrace render tests/platform/control/deployments/{name}.yaml --environment {environment} > {file}"


@pytest.mark.parametrize("name", NAMES)
def test_a_deployment_renders_to_what_it_rendered_to(name: str) -> None:
    file = RENDERED / f"{name}.yaml"
    text = documents(
        (*render(deployment(name), environment()), render_route(deployment(name), environment()))
    )
    assert text == file.read_text(), AGAIN.format(name=name, environment=ENVIRONMENT.name, file=file.name)


def test_another_process_renders_the_same_bytes() -> None:
    run = "from headrace_platform.cli import app; app()"
    command = [sys.executable, "-c", run, "render", str(DEPLOYMENTS[0]), "--environment", str(ENVIRONMENT)]
    rendered = [
        subprocess.run(
            command, env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert rendered[0] == rendered[1] == (RENDERED / DEPLOYMENTS[0].name).read_bytes()
