"""What the catalogue has to say of a model, as values: printed for people, and given to programs as JSON.

Fields are only ever added: scripts read this.
"""

from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from headrace_platform.catalog.engine import engine_arguments, engine_environment
from headrace_platform.catalog.placement import SEQUENCE_TOKENS_USUAL, DoesNotFit, Placement, place
from headrace_platform.catalog.profiles import PROFILES, Profile
from headrace_platform.catalog.record import Format, ModelRecord

GB = Decimal(10**9)


class OnProfile(Struct, frozen=True, kw_only=True):
    """The smallest placement on one profile, or why there is none."""

    profile: str
    name: str
    fits: bool
    reason: str | None = None
    format: Format | None = None
    gpus: int | None = None
    nodes: int | None = None
    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    expert: int | None = None
    weights_gb_a_gpu: float | None = None
    cache_gb_a_gpu: float | None = None
    cache_tokens: int | None = None
    context_tokens: int | None = None
    sequences_usual: int | None = None
    """Requests of 8,192 tokens, or of the context where that is shorter, that have room at once."""
    sequences_max: int | None = None
    engine_arguments: list[str] | None = None
    engine_environment: dict[str, str] | None = None


class ModelLine(Struct, frozen=True, kw_only=True):
    """One model in the list of all."""

    id: str
    kind: str
    owned_by: str
    licence: str
    parameters: int
    parameters_active: int | None
    context_tokens: int | None
    attention: str | None
    formats: list[str]
    vllm_minimum: str | None
    thinking: str | None
    unserved: str | None
    gpus: dict[str, int]
    """The fewest on each profile that can run it; 0 for a CPU."""


class ModelList(Struct, frozen=True, kw_only=True):
    models: list[ModelLine]


class ModelPage(Struct, frozen=True, kw_only=True):
    record: ModelRecord
    profiles: list[OnProfile]


def line(record: ModelRecord) -> ModelLine:
    return ModelLine(
        id=record.id,
        kind=record.kind,
        owned_by=record.owned_by,
        licence=record.licence,
        parameters=record.parameters,
        parameters_active=record.parameters_active,
        context_tokens=record.context_tokens,
        attention=record.shape.attention_name if record.shape else None,
        formats=[weights.format for weights in record.weights],
        vllm_minimum=record.vllm_minimum,
        thinking=thinking(record),
        unserved=record.unserved,
        gpus={profile.id: placement.gpus for profile, placement in placements(record)},
    )


def page(record: ModelRecord) -> ModelPage:
    return ModelPage(record=record, profiles=[on_profile(record, profile) for profile in PROFILES.values()])


def on_profile(record: ModelRecord, profile: Profile) -> OnProfile:
    try:
        placement = place(record, profile)
    except DoesNotFit as refusal:
        return OnProfile(profile=profile.id, name=profile.name, fits=False, reason=str(refusal))
    return OnProfile(
        profile=profile.id,
        name=profile.name,
        fits=True,
        format=placement.format,
        gpus=placement.gpus,
        nodes=placement.nodes,
        tensor=placement.tensor,
        pipeline=placement.pipeline,
        data=placement.data,
        expert=placement.expert,
        weights_gb_a_gpu=float(round(placement.memory.weights_bytes / GB, 1)),
        cache_gb_a_gpu=float(round(placement.memory.pool_bytes / GB, 1)),
        cache_tokens=placement.pool_tokens,
        context_tokens=placement.context_tokens,
        sequences_usual=placement.sequences(min(SEQUENCE_TOKENS_USUAL, placement.context_tokens)),
        sequences_max=placement.sequences_max,
        engine_arguments=engine_arguments(record, profile, placement),
        engine_environment=engine_environment(record, profile, placement),
    )


def placements(record: ModelRecord) -> Iterator[tuple[Profile, Placement]]:
    """The smallest placement on each profile that can run the model."""
    for profile in PROFILES.values():
        try:
            yield profile, place(record, profile)
        except DoesNotFit:
            continue


def thinking(record: ModelRecord) -> str | None:
    """Whether the model thinks, in few words; null where it is not known."""
    if record.thinking is None:
        return None
    if record.thinking.switch is None:
        return "always"
    return "optional" if record.thinking.by_default else "on request"
