"""What the operator renders is what Serve takes, and the very application that runs on this machine."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from headrace_contracts.engine import EngineEnding
from headrace_platform.control.environment import Environment
from headrace_platform.control.render import render
from headrace_platform.local.environments import engine_python
from tests.platform.control.examples import NAMES, deployment, environment
from tests.platform.serving.chat import chat, posted
from tests.support import serve_configuration
from tests.support.engine import running_engine
from tests.support.engine_records import EngineRecords
from tests.support.patience import wait_until

# What Serve does with a configuration before it starts anything.
READ = """
import json, sys
from ray.serve.schema import ServeDeploySchema
from headrace_platform.catalog.engine import engine_arguments
from headrace_platform.catalog.serve import placed
from headrace_platform.serving.arguments import ApplicationArguments

for config in json.load(sys.stdin):
    (application,) = ServeDeploySchema.model_validate(config).applications
    arguments = ApplicationArguments.read(application.args)
    print(json.dumps(engine_arguments(*placed(arguments.placement), weights_at=arguments.weights_at)))
"""


def configs(name: str, settings: Environment | None = None) -> list[dict[str, Any]]:
    return [
        yaml.safe_load(manifest["spec"]["serveConfigV2"])
        for manifest in render(deployment(name), settings or environment())
        if manifest["kind"] == "RayService"
    ]


@pytest.mark.engine
def test_serve_takes_every_rendered_configuration_and_the_builder_reads_it() -> None:
    every = [config for name in NAMES for config in configs(name)]
    done = subprocess.run(
        [engine_python(), "-P", "-c", READ],
        input=json.dumps(every),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lists = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lists) == len(every)
    by_name = dict(zip([name for name in NAMES for _ in configs(name)], lists, strict=True))
    assert value(by_name["dedicated"], "--tensor-parallel-size") == "8"
    assert value(by_name["dedicated"], "--model") == "/weights"
    assert value(by_name["many-clusters"], "--model") == "/weights/models"
    assert value(by_name["small"], "--served-model-name") == "glm-tiny"


def value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


@pytest.mark.slow_engine
@pytest.mark.engine
@pytest.mark.timeout(400)
def test_a_rendered_application_answers_and_its_record_names_the_deployment(tmp_path: Path) -> None:
    def program(billing: EngineRecords) -> Sequence[str]:
        (config,) = configs("small", environment({"billing.recordsUrl": billing.url}))
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        return (serve_configuration.__file__, str(file))

    with running_engine(tmp_path / "engine", program=program) as engine:
        attempt = engine.attempt()
        status, reply = chat(engine, "What is 17+25?", attempt)
        assert status == 200
        wait_until(lambda: engine.billing.ended(attempt))
        record = engine.billing.ended(attempt)
        assert record is not None
        assert record.deployment == "models/tiny-c1"
        assert record.ending is EngineEnding.FINISHED
        assert record.output == reply["usage"]["completion_tokens"]

        # What the alerts of a promised latency are asked of.
        port = (engine.state_dir / serve_configuration.METRICS_PORT).read_text()
        wait_until(lambda: {"first_token", "inter_token"} <= counted(f"http://127.0.0.1:{port}/metrics"))


@pytest.mark.slow_engine
@pytest.mark.engine
@pytest.mark.timeout(400)
def test_embeddings_are_recorded_with_all_tokens_that_were_read(tmp_path: Path) -> None:
    def program(billing: EngineRecords) -> Sequence[str]:
        (config,) = configs("small", environment({"billing.recordsUrl": billing.url}))
        config["applications"][0]["args"]["engine_arguments"] = "--runner pooling --convert embed"
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        return (serve_configuration.__file__, str(file))

    with running_engine(tmp_path / "engine", program=program) as engine:
        attempt = engine.attempt()
        given = {"input": ["What is 17+25?", "A river, a mill and the miller."]}
        with posted(engine, "/v1/embeddings", given, attempt) as response:
            reply = json.loads(response.read())
        assert response.status == 200, reply
        assert len(reply["data"]) == 2
        wait_until(lambda: engine.billing.ended(attempt))
        record = engine.billing.ended(attempt)
        assert record is not None
        assert (record.ending, record.probe) == (EngineEnding.FINISHED, False)
        assert (record.prompt, record.output) == (reply["usage"]["prompt_tokens"], 0)
        assert record.prompt > 2


def counted(url: str) -> set[str]:
    """Which of the alerts' metrics have counted something."""
    with urlopen(url, timeout=10) as reply:  # noqa: S310  (our own)
        text = reply.read().decode()
    names = {
        "first_token": "ray_vllm_time_to_first_token_seconds_count",
        "inter_token": "ray_vllm_inter_token_latency_seconds_count",
    }
    return {
        short
        for short, name in names.items()
        if any(line.startswith(name) and float(line.rsplit(" ", 1)[1]) > 0 for line in text.splitlines())
    }
