from dataclasses import replace
from pathlib import Path

import pytest

from headrace_platform.catalog.engine import LOCAL_CPU, METERING_FLAGS, engine_arguments
from headrace_platform.catalog.models import GLM_TINY, MODELS
from headrace_platform.catalog.record import HubWeights, ModelRecord


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


@pytest.mark.parametrize("record", MODELS, ids=lambda record: record.id)
def test_an_engine_always_counts_for_billing(record: ModelRecord) -> None:
    assert set(METERING_FLAGS) <= set(engine_arguments(record, LOCAL_CPU))


def test_parsers_and_flags_come_from_the_record_and_not_from_the_family() -> None:
    cousin = replace(
        GLM_TINY,
        tool_parser="qwen3_coder",
        reasoning_parser="deepseek_r1",
        engine_flags=("--enable-expert-parallel",),
    )

    arguments = engine_arguments(cousin, LOCAL_CPU)

    assert value(arguments, "--tool-call-parser") == "qwen3_coder"
    assert value(arguments, "--reasoning-parser") == "deepseek_r1"
    assert "--enable-expert-parallel" in arguments


def test_the_shipped_model_is_served_from_its_folder_under_its_id() -> None:
    arguments = engine_arguments(GLM_TINY, LOCAL_CPU)

    assert Path(value(arguments, "--model"), "config.json").is_file()
    assert value(arguments, "--served-model-name") == "glm-tiny"
    assert "--revision" not in arguments


def test_weights_from_a_hub_are_pinned_to_their_commit() -> None:
    record = replace(GLM_TINY, weights=HubWeights(repository="zai-org/GLM-4.7", revision="a" * 40))

    arguments = engine_arguments(record, LOCAL_CPU)

    assert value(arguments, "--model") == "zai-org/GLM-4.7"
    assert value(arguments, "--revision") == "a" * 40


def test_a_profile_shortens_a_context_and_never_lengthens_it() -> None:
    short = replace(LOCAL_CPU, context_tokens_max=1024)
    long = replace(LOCAL_CPU, context_tokens_max=1_000_000)

    assert value(engine_arguments(GLM_TINY, short), "--max-model-len") == "1024"
    assert value(engine_arguments(GLM_TINY, long), "--max-model-len") == str(GLM_TINY.context_tokens)
