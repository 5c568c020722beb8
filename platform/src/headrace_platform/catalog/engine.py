"""From a model's record and where it is placed to vLLM's argument list. Pure: it starts nothing.

What billing rests on is in every list, whatever the model and the machine: usage on each chunk, so that a
stream which is cut off leaves an exact count, and the cached part of the prompt.
"""

import json

from headrace_platform.catalog.models import location
from headrace_platform.catalog.placement import Placement, on_hardware, place
from headrace_platform.catalog.profiles import LOCAL_CPU, Profile
from headrace_platform.catalog.record import KvCache, ModelRecord

__all__ = ["LOCAL_CPU", "METERING_FLAGS", "engine_arguments", "engine_environment"]

METERING_FLAGS = ("--enable-force-include-usage", "--enable-prompt-tokens-details")


def engine_arguments(
    record: ModelRecord,
    profile: Profile,
    placement: Placement | None = None,
    *,
    weights_at: str | None = None,
    revision: str | None = None,
) -> list[str]:
    """Arguments of `vllm serve`, without host and port, which are whoever starts it to choose.

    `placement` is the smallest one unless given; `weights_at` is a folder or repository in place of the record's,
    and `revision` its commit. Raises `DoesNotFit`.
    """
    placement = placement or place(record, profile)
    weights = record.stored_as(placement.format)
    commit = revision or (None if weights_at else weights.revision)
    hardware = on_hardware(record, profile)
    return [
        *("--model", weights_at or location(record, placement.format)),
        *(("--revision", commit) if commit else ()),
        *("--served-model-name", record.id),
        *("--max-model-len", str(placement.context_tokens)),
        *_machine(profile, placement),
        *_parallel(placement),
        *("--max-num-seqs", str(placement.sequences_max)),
        *("--max-num-batched-tokens", str(profile.engine.batched_tokens_max)),
        "--enable-prefix-caching",
        *_dialogue(record),
        *_speculation(record),
        *METERING_FLAGS,
        *record.flags,
        *weights.flags,
        *hardware.flags,
    ]


def engine_environment(record: ModelRecord, profile: Profile, placement: Placement) -> dict[str, str]:
    """Environment variables that the model needs where it is placed; nothing secret."""
    weights = record.stored_as(placement.format)
    return {
        **_longest_recording(record),
        **record.environment,
        **weights.environment,
        **on_hardware(record, profile).environment,
    }


def _longest_recording(record: ModelRecord) -> dict[str, str]:
    """What the gateway holds a recording for at most, where it can't tell how long it is."""
    hearing = record.shape.hearing if record.shape is not None else None
    return {} if hearing is None else {"VLLM_MAX_AUDIO_DECODE_DURATION_S": str(hearing.seconds_max)}


def _machine(profile: Profile, placement: Placement) -> list[str]:
    tuning = profile.engine
    arguments = ["--dtype", tuning.dtype]
    if tuning.kv_cache_bytes is not None:
        arguments += ["--kv-cache-memory-bytes", str(tuning.kv_cache_bytes)]
    else:
        arguments += ["--gpu-memory-utilization", f"{placement.memory_share:.2f}"]
    if placement.kv_cache is not KvCache.AUTO:
        arguments += ["--kv-cache-dtype", str(placement.kv_cache)]
    if tuning.block_tokens is not None:
        arguments += ["--block-size", str(tuning.block_tokens)]
    if tuning.eager:
        arguments.append("--enforce-eager")
    return arguments


def _parallel(placement: Placement) -> list[str]:
    """How the replica is divided.

    On one node vLLM starts its workers as processes, as `vllm serve` does; on one device it needs none. Over
    several nodes Ray starts them, in the placement group that Serve makes for the replica.
    """
    if placement.gpus <= 1:
        return ["--distributed-executor-backend", "uni"]
    executor = "mp" if placement.nodes == 1 else "ray"
    arguments = [
        *("--distributed-executor-backend", executor),
        *("--tensor-parallel-size", str(placement.tensor)),
    ]
    if placement.pipeline > 1:
        arguments += ["--pipeline-parallel-size", str(placement.pipeline)]
    if placement.data > 1:
        arguments += ["--data-parallel-size", str(placement.data)]
    if placement.expert > 1:
        arguments.append("--enable-expert-parallel")
    return arguments


def _dialogue(record: ModelRecord) -> list[str]:
    """What turns the model's text into messages, tool calls and reasoning."""
    arguments = []
    if record.tool_parser is not None:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", record.tool_parser]
    if record.reasoning_parser is not None:
        arguments += ["--reasoning-parser", record.reasoning_parser]
    if record.content_format is not None:
        arguments += ["--chat-template-content-format", str(record.content_format)]
    return arguments


def _speculation(record: ModelRecord) -> list[str]:
    if record.speculation is None:
        return []
    config = {"method": record.speculation.method, "num_speculative_tokens": record.speculation.tokens}
    return ["--speculative-config", json.dumps(config, separators=(",", ":"))]
