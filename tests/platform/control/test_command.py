"""`headrace render` as people and pipelines meet it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from headrace_platform.cli import app
from tests.platform.control.examples import ENVIRONMENT, HERE, RENDERED, body


def ran(file: Path, environment: Path = ENVIRONMENT) -> Result:
    return CliRunner().invoke(app, ["render", str(file), "--environment", str(environment)])


def written(tmp_path: Path, whole: Any) -> Path:
    file = tmp_path / "deployment.yaml"
    file.write_text(yaml.safe_dump(whole))
    return file


def test_it_prints_the_objects_and_nothing_else() -> None:
    result = ran(HERE / "deployments" / "small.yaml")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout == (RENDERED / "small.yaml").read_text()


def test_json_will_do(tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps(body("small")))
    assert ran(file).stdout == (RENDERED / "small.yaml").read_text()


def test_a_broken_rule_is_told_with_its_path_and_nothing_is_printed(tmp_path: Path) -> None:
    result = ran(written(tmp_path, body("dedicated", {"model.source.sha256": None})))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("spec.model.source.sha256: give the checksum")
    assert result.stderr.rstrip().endswith("[source_unproven]")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "can't be read"),
        ("- 1", "holds no object"),
        ("kind: Pod", "kind"),
        ("no object at all", "holds no object"),
    ],
)
def test_what_is_no_deployment_is_told_in_a_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(text)
    result = ran(file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert told in result.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = ran(tmp_path / "nowhere.yaml")
    assert result.exit_code == 1
    assert "nowhere.yaml" in result.stderr


def test_settings_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    settings = yaml.safe_load(ENVIRONMENT.read_text())
    settings["billing"]["destination"] = {"port": 8081}
    file = tmp_path / "environment.yaml"
    file.write_text(yaml.safe_dump(settings))
    result = ran(HERE / "deployments" / "small.yaml", file)
    assert result.exit_code == 1
    assert "$.billing.destination" in result.stderr
