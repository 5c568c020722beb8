"""The models that Headrace knows. A name finds its record here or nowhere."""

from pathlib import Path

from headrace_platform.catalog.record import (
    Dimensions,
    HubWeights,
    ModelRecord,
    ShippedWeights,
    Thinking,
    ToolFormat,
)

WEIGHTS = Path(__file__).parent / "weights"

GLM_TINY = ModelRecord(
    id="glm-tiny",
    revision="1",
    owned_by="headrace",
    released_at=1_795_392_000,
    licence="Apache-2.0",
    weights=ShippedWeights(folder="glm-tiny"),
    architecture="Glm4MoeForCausalLM",
    dimensions=Dimensions(
        layers=4,
        layers_dense=1,
        hidden=128,
        heads=4,
        heads_kv=2,
        head_dim=32,
        experts_routed=8,
        experts_shared=1,
        experts_per_token=2,
        vocabulary=1024,
    ),
    parameters=1_937_792,
    parameters_active=1_053_056,
    context_tokens=4096,
    eos_ids=(1002, 1009, 1011),
    tool_format=ToolFormat.COMPACT,
    tool_parser="glm47",
    reasoning_parser="glm45",
    thinking=Thinking(by_default=True, switch="enable_thinking", prompt_opens=True),
    prompt_overhead_tokens=64,
    vllm_minimum="0.32.0",
)

MODELS = (GLM_TINY,)


class ModelUnknown(KeyError):
    """No record of the catalogue has this id or alias."""

    code = "model_unknown"


def find(name: str) -> ModelRecord:
    """The record with this id or alias."""
    for record in MODELS:
        if name == record.id or name in record.aliases:
            return record
    raise ModelUnknown(name)


def location(record: ModelRecord) -> str:
    """What an engine is told to load: a folder on this machine, or a repository's name."""
    match record.weights:
        case ShippedWeights(folder=folder):
            return str(WEIGHTS / folder)
        case HubWeights(repository=repository):
            return repository
