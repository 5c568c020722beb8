from pathlib import Path

import pytest
from msgspec import structs

from headrace_platform.catalog.engine import METERING_FLAGS, engine_arguments, engine_environment
from headrace_platform.catalog.models import GLM_TINY, find
from headrace_platform.catalog.placement import Sizes, place
from headrace_platform.catalog.profiles import LOCAL_CPU, PROFILES
from headrace_platform.catalog.record import Format
from tests.platform.catalog.everything import all_that_fits

H200 = PROFILES["h200"]


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_an_engine_always_counts_for_billing() -> None:
    for case in all_that_fits():
        arguments = engine_arguments(case.record, case.profile, case.placement)
        assert set(METERING_FLAGS) <= set(arguments), str(case)


def test_parsers_and_flags_come_from_the_record_and_not_from_the_family() -> None:
    air = engine_arguments(find("glm-4.5-air"), H200)
    cousin = engine_arguments(find("intellect-3"), H200)

    assert value(air, "--tool-call-parser") == "glm45"
    assert value(cousin, "--tool-call-parser") == "qwen3_coder"
    assert value(cousin, "--reasoning-parser") == "deepseek_r1"
    assert "--speculative-config" in air
    assert "--speculative-config" not in cousin


def test_a_model_without_tools_has_no_parser_for_them() -> None:
    arguments = engine_arguments(find("glm-ocr"), H200)

    assert "--tool-call-parser" not in arguments
    assert "--enable-auto-tool-choice" not in arguments
    assert "--reasoning-parser" not in arguments


def test_the_shipped_model_is_served_from_its_folder_under_its_id() -> None:
    arguments = engine_arguments(GLM_TINY, LOCAL_CPU)

    assert Path(value(arguments, "--model"), "config.json").is_file()
    assert value(arguments, "--served-model-name") == "glm-tiny"
    assert "--revision" not in arguments


def test_weights_from_a_hub_are_pinned_to_their_commit() -> None:
    tuned = structs.replace(
        GLM_TINY,
        weights=(
            structs.replace(GLM_TINY.weights[0], folder=None, repository="acme/tuned", revision="a" * 40),
        ),
    )

    arguments = engine_arguments(tuned, LOCAL_CPU)

    assert value(arguments, "--model") == "acme/tuned"
    assert value(arguments, "--revision") == "a" * 40


def test_weights_that_were_put_elsewhere_are_loaded_from_there() -> None:
    arguments = engine_arguments(find("glm-5.3"), H200, weights_at="/models/glm-5.3")

    assert value(arguments, "--model") == "/models/glm-5.3"
    assert value(arguments, "--served-model-name") == "glm-5.3"


def test_a_replica_on_one_node_is_divided_by_processes_and_over_several_by_ray() -> None:
    on_one = engine_arguments(find("glm-5.3"), H200)
    on_two = engine_arguments(find("glm-5.3"), PROFILES["h100"])

    assert value(on_one, "--tensor-parallel-size") == "8"
    assert value(on_one, "--distributed-executor-backend") == "mp"
    assert "--pipeline-parallel-size" not in on_one
    assert value(on_two, "--tensor-parallel-size") == "8"
    assert value(on_two, "--pipeline-parallel-size") == "2"
    assert value(on_two, "--distributed-executor-backend") == "ray"


def test_one_device_needs_no_division() -> None:
    arguments = engine_arguments(find("glm-4.7-flash"), H200)

    assert value(arguments, "--distributed-executor-backend") == "uni"
    assert "--tensor-parallel-size" not in arguments


def test_data_parallel_ranks_share_the_experts() -> None:
    record = find("glm-5.3")
    placement = place(record, PROFILES["b200"], sizes=Sizes(tensor=1, data=8))

    arguments = engine_arguments(record, PROFILES["b200"], placement)

    assert value(arguments, "--data-parallel-size") == "8"
    assert "--enable-expert-parallel" in arguments


@pytest.mark.parametrize(
    ("model", "profile", "cache"),
    [
        ("glm-5.3", "h200", "fp8"),
        ("glm-5.3", "b200", "fp8_e4m3"),
        ("glm-5.3", "h20", None),
        ("glm-5.3-flash", "h200", None),
        ("glm-5.3-flash", "b200", "fp8"),
        ("glm-4.7", "h200", None),
    ],
)
def test_the_cache_is_stored_as_the_recipe_has_it_on_that_gpu(
    model: str, profile: str, cache: str | None
) -> None:
    arguments = engine_arguments(find(model), PROFILES[profile])

    assert (value(arguments, "--kv-cache-dtype") if "--kv-cache-dtype" in arguments else None) == cache


def test_what_a_format_and_a_gpu_need_goes_into_flags_and_environment() -> None:
    nvfp4 = find("glm-4.7")
    b200 = PROFILES["b200"]
    placement = place(nvfp4, b200, stored=Format.NVFP4)
    flash = find("glm-5.3-flash")
    mi355x = PROFILES["mi355x"]

    assert engine_environment(nvfp4, b200, placement) == {"VLLM_USE_FLASHINFER_MOE_FP4": "1"}
    assert value(engine_arguments(nvfp4, b200, placement), "--kv-cache-dtype") == "fp8"
    assert "--no-enable-flashinfer-autotune" in engine_arguments(flash, H200)
    assert "--no-enable-flashinfer-autotune" not in engine_arguments(flash, b200)
    assert engine_environment(flash, mi355x, place(flash, mi355x)) == {
        "VLLM_ENGINE_READY_TIMEOUT_S": "3600",
        "VLLM_ROCM_USE_AITER": "1",
        "VLLM_ROCM_USE_AITER_FUSION_SHARED_EXPERTS": "1",
        "VLLM_ROCM_USE_AITER_TRITON_SPARSE_MLA": "1",
    }


def test_what_was_asked_of_the_context_reaches_the_engine() -> None:
    placement = place(GLM_TINY, LOCAL_CPU, context_tokens=1024)

    assert value(engine_arguments(GLM_TINY, LOCAL_CPU, placement), "--max-model-len") == "1024"
