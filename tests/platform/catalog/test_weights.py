"""The model in the repository is the one that its record and its scripts describe."""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import pytest

from headrace_platform.catalog import tiny
from headrace_platform.catalog.models import GLM_TINY, location
from headrace_platform.catalog.shape import GroupedQuery
from headrace_platform.catalog.tiny.dialogue import EOS_TOKENS, HIDDEN_TOKENS, TAG_TOKENS

FOLDER = Path(location(GLM_TINY))
WEIGHTS_BYTES_MAX = 5_000_000


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "config.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def tensors() -> dict[str, dict[str, Any]]:
    with (FOLDER / "model.safetensors").open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(header_bytes))
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}


@pytest.fixture(scope="module")
def token_ids() -> dict[str, int]:
    tokenizer = json.loads((FOLDER / "tokenizer.json").read_text())
    return {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def test_the_weights_are_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < WEIGHTS_BYTES_MAX


def test_the_config_is_a_glm_mixture_of_experts_of_the_recorded_shape(config: dict[str, Any]) -> None:
    shape = GLM_TINY.shape
    assert shape
    assert shape.experts
    assert isinstance(shape.attention, GroupedQuery)

    assert config["architectures"] == [GLM_TINY.architecture] == ["Glm4MoeForCausalLM"]
    assert config["num_hidden_layers"] == shape.layers
    assert config["first_k_dense_replace"] == shape.layers_dense
    assert config["hidden_size"] == shape.hidden
    assert config["num_attention_heads"] == shape.attention.heads
    assert config["num_key_value_heads"] == shape.attention.heads_kv
    assert config["head_dim"] == shape.attention.head_dim
    assert config["n_routed_experts"] == shape.experts.routed > 1
    assert config["n_shared_experts"] == shape.experts.shared == 1
    assert config["num_experts_per_tok"] == shape.experts.per_token
    assert config["intermediate_size"] == shape.feed_forward
    assert config["moe_intermediate_size"] == shape.experts.feed_forward
    assert config["vocab_size"] == shape.vocabulary
    assert config["max_position_embeddings"] == GLM_TINY.context_tokens


def test_every_layer_after_the_dense_ones_has_routed_and_shared_experts(
    tensors: dict[str, dict[str, Any]],
) -> None:
    shape = GLM_TINY.shape
    assert shape
    assert shape.experts
    for layer in range(shape.layers_dense, shape.layers):
        block = f"model.layers.{layer}.mlp"
        experts = {name.split(".")[5] for name in tensors if name.startswith(f"{block}.experts.")}

        assert experts == {str(expert) for expert in range(shape.experts.routed)}
        assert f"{block}.shared_experts.down_proj.weight" in tensors
        assert f"{block}.gate.weight" in tensors


def test_the_weights_are_bfloat16_and_as_many_as_recorded(tensors: dict[str, dict[str, Any]]) -> None:
    counted = sum(prod(tensor["shape"]) for name, tensor in tensors.items() if "bias" not in name)
    large = [tensor for tensor in tensors.values() if len(tensor["shape"]) > 1]

    assert counted == GLM_TINY.parameters
    assert {tensor["dtype"] for tensor in large} == {"BF16"}


def test_the_tokens_that_delimit_turns_end_a_reply(config: dict[str, Any], token_ids: dict[str, int]) -> None:
    stops = tuple(token_ids[token] for token in EOS_TOKENS)
    generation = json.loads((FOLDER / "generation_config.json").read_text())

    assert stops == GLM_TINY.eos_ids
    assert tuple(config["eos_token_id"]) == stops
    assert tuple(generation["eos_token_id"]) == stops


def test_glms_tokens_stand_in_order_after_the_ordinary_vocabulary(token_ids: dict[str, int]) -> None:
    added = (*HIDDEN_TOKENS, *TAG_TOKENS)
    assert GLM_TINY.shape
    first = GLM_TINY.shape.vocabulary - len(added)

    assert [token_ids[token] for token in added] == list(range(first, first + len(added)))


def test_the_shipped_template_is_the_one_that_the_trainer_compares_with() -> None:
    source = Path(tiny.__file__).with_name("chat_template.jinja")

    assert (FOLDER / "chat_template.jinja").read_text() == source.read_text()
