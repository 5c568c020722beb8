"""The records, held against the libraries that serve them: asked once, in the engine's own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headrace_platform.catalog.engine import engine_arguments
from headrace_platform.catalog.memory import sequence_bytes
from headrace_platform.catalog.models import MODELS, find
from headrace_platform.catalog.serve import serve_config, usual_scaling
from headrace_platform.catalog.shape import GroupedQuery, Latent, Linear, Shape
from headrace_platform.local.environments import engine_python
from headrace_platform.local.problems import EngineMissing
from tests.platform.catalog.everything import Case, all_that_fits

ANSWER_TIMEOUT_SECONDS = 150

# Whose dimensions are the defaults of which configuration of transformers.
CONFIGURED = {
    "glm-4.5-air": "Glm4MoeConfig",
    "glm-4.5v": "Glm4vMoeConfig",
    "glm-4.6v-flash": "Glm4vConfig",
    "glm-4.7-flash": "Glm4MoeLiteConfig",
    "glm-5": "GlmMoeDsaConfig",
    "glm-5.3-flash": "Glm5NextConfig",
    "glm-ocr": "GlmOcrConfig",
    "glm-asr-nano-2512": "GlmAsrConfig",
}
DRAFTS = (0, 5)

# That the libraries were asked at all: they refuse these.
WRONG_ARGUMENTS = ["--model", "x", "--unheard-of", "1"]
WRONG_CONFIG = {"applications": [{"name": "x", "import_path": "no_colon_in_it", "deployments": 3}]}


def linear_layers(model: str) -> tuple[Shape, Linear]:
    shape = find(model).shape
    assert shape
    assert isinstance(shape.attention, Latent)
    assert shape.attention.linear
    return shape, shape.attention.linear


def configured(case: Case) -> dict[str, Any]:
    scaling = usual_scaling(case.placement, max_replicas=4)
    return serve_config(case.record, case.profile, case.placement, scaling, deployment=case.record.id)


CASES = all_that_fits()
FLASH, LINEAR = linear_layers("glm-5.3-flash")


@pytest.fixture(scope="session")
def engine_facts() -> dict[str, Any]:
    try:
        python = engine_python()
    except EngineMissing as missing:
        pytest.skip(f"{missing} {missing.next_step}")
    questions = {
        "arguments": [
            *(engine_arguments(case.record, case.profile, case.placement) for case in CASES),
            WRONG_ARGUMENTS,
        ],
        "serve_configs": [*map(configured, CASES), WRONG_CONFIG],
        "configurations": sorted(CONFIGURED.values()),
        "linear_states": [
            {
                "tensor": 4,
                "heads": LINEAR.heads,
                "head_dim": LINEAR.head_dim,
                "convolution": LINEAR.convolution,
                "drafts": drafts,
            }
            for drafts in DRAFTS
        ],
    }
    answered = subprocess.run(
        [python, "-P", str(Path(__file__).with_name("engine_facts.py"))],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_SECONDS,
        check=False,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "RAY_"))},
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert answered.returncode == 0, answered.stderr[-4000:]
    facts: dict[str, Any] = json.loads(answered.stdout.splitlines()[-1])
    return facts


def of_release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


def test_vllm_has_the_class_and_the_parsers_of_every_model(engine_facts: dict[str, Any]) -> None:
    for record in MODELS:
        for architecture in (record.architecture, record.architecture_mtp):
            assert architecture in (None, *engine_facts["architectures"]), record.id
        assert record.tool_parser in (None, *engine_facts["tool_parsers"]), record.id
        assert record.reasoning_parser in (None, *engine_facts["reasoning_parsers"]), record.id


def test_the_installed_engine_is_new_enough_for_every_model(engine_facts: dict[str, Any]) -> None:
    installed = {name: of_release(version) for name, version in engine_facts["versions"].items()}

    for record in MODELS:
        assert of_release(record.vllm_minimum or "0") <= installed["vllm"], record.id
        assert of_release(record.transformers_minimum or "0") <= installed["transformers"], record.id


def test_vllm_takes_the_arguments_of_every_placement(engine_facts: dict[str, Any]) -> None:
    *refusals, of_wrong_ones = engine_facts["refused_arguments"]
    refused = zip(CASES, refusals, strict=True)

    assert "unheard-of" in of_wrong_ones
    assert {str(case): why for case, why in refused if why is not None} == {}


def test_serve_takes_the_configuration_of_every_placement(engine_facts: dict[str, Any]) -> None:
    *refusals, of_wrong_one = engine_facts["refused_configs"]
    refused = zip(CASES, refusals, strict=True)

    assert "deployments" in of_wrong_one
    assert {str(case): why for case, why in refused if why is not None} == {}


@pytest.mark.parametrize("model", CONFIGURED)
def test_dimensions_are_those_of_transformers(engine_facts: dict[str, Any], model: str) -> None:
    record = find(model)
    known = engine_facts["configurations"][CONFIGURED[model]]
    shape = record.shape
    assert shape

    ours = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "vocab_size": shape.vocabulary,
        "num_attention_heads": shape.attention.heads,
    }
    if isinstance(shape.attention, GroupedQuery):
        ours["num_key_value_heads"] = shape.attention.heads_kv
    else:
        ours |= {
            "q_lora_rank": shape.attention.rank_query,
            "kv_lora_rank": shape.attention.rank_kv,
            "qk_nope_head_dim": shape.attention.head_dim_plain,
            "qk_rope_head_dim": shape.attention.head_dim_rotated,
            "v_head_dim": shape.attention.head_dim_value,
        }
        if shape.attention.indexer:
            ours |= {
                "index_n_heads": shape.attention.indexer.heads,
                "index_head_dim": shape.attention.indexer.head_dim,
                "index_topk": shape.attention.indexer.tokens_picked,
            }
    if shape.experts:
        ours |= {
            "n_routed_experts": shape.experts.routed,
            "n_shared_experts": shape.experts.shared,
            "num_experts_per_tok": shape.experts.per_token,
            "moe_intermediate_size": shape.experts.feed_forward,
        }

    assert ours == {field: known.get(field) for field in ours}


def test_a_state_of_linear_attention_is_as_large_as_vllm_makes_it(engine_facts: dict[str, Any]) -> None:
    for drafts, of_a_layer in zip(DRAFTS, engine_facts["linear_state_bytes"], strict=True):
        expected = LINEAR.layers * of_a_layer * (1 + drafts)
        assert (
            sequence_bytes(FLASH, draft_tokens=drafts, tensor=4, pipeline=1, prefixes_cached=False)
            == expected
        )
