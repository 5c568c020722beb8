"""What vLLM reads of its environment wherever the engine runs."""

import os
from pathlib import Path

import pytest

from headrace_contracts.deployments import STOP_STRINGS_MAX
from headrace_platform.serving.environment import prepare_replica
from headrace_platform.serving.settings import ReplicaSettings


@pytest.fixture
def replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a replica adds to an environment that says nothing."""
    variables: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", variables)
    prepare_replica(ReplicaSettings.model_construct(state_dir=tmp_path), eager=False)
    return variables


def test_an_engine_takes_as_many_strings_to_stop_at_as_the_gateway_lets_pass(replica: dict[str, str]) -> None:
    assert replica["VLLM_MAX_STOP_STRINGS"] == str(STOP_STRINGS_MAX)
