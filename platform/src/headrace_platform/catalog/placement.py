"""Where a model goes: which weights, on how many GPUs, divided how, with what room for requests.

Invariant: a placement fits by the formulas of `memory`, and has no fewer GPUs than the model's maker or vLLM's
recipe names for these weights on this GPU. What does not fit is refused with the arithmetic that says so.
"""

from dataclasses import dataclass, replace

from headrace_platform.catalog import memory
from headrace_platform.catalog.memory import GB, KvLayout, Memory
from headrace_platform.catalog.profiles import Backend, Profile
from headrace_platform.catalog.record import Format, KvCache, ModelRecord, OnHardware, Weights
from headrace_platform.catalog.shape import Latent, Shape
from headrace_platform.catalog.sizes import NODES_MAX, DoesNotFit, Sizes, expect_divisible, sizes_to_try

__all__ = ["DoesNotFit", "Placement", "Sizes", "on_hardware", "place"]

# A model that can't take this much of its context is not worth the GPUs.
CONTEXT_TOKENS_MIN = 16_384
# Of the estimated pool, what one request may have: vLLM does not start when the context exceeds the real pool.
CONTEXT_SHARE = 0.9
CONTEXT_STEP = 1024

# For how many requests at once the engine is set up: this is a usual length of one with its answer.
SEQUENCE_TOKENS_USUAL = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One replica of a model on one profile."""

    model: str
    profile: str
    format: Format
    gpus: int
    nodes: int
    tensor: int
    pipeline: int
    data: int
    expert: int
    """GPUs over which the experts are spread whole; 1 where they are divided like everything else."""
    kv_cache: KvCache
    context_tokens: int
    """What the engine is told: the model's, or less where the cache could not hold one whole."""
    sequences_max: int
    memory_share: float
    memory: Memory

    @property
    def pool_tokens(self) -> int:
        """Tokens of running requests that a replica can hold, all its data-parallel ranks together."""
        return self.memory.pool_tokens * self.data

    def sequences(self, tokens: int) -> int:
        """Requests of so many tokens that a replica can run at once, memory alone considered."""
        return self.memory.sequences(tokens) * self.data


def place(
    record: ModelRecord,
    profile: Profile,
    *,
    stored: Format | None = None,
    sizes: Sizes | None = None,
    context_tokens: int | None = None,
) -> Placement:
    """The smallest placement: of these weights or else the record's preferred ones that fit, on one node if at
    all possible. `sizes` and `context_tokens` ask for more than the smallest.

    Raises `DoesNotFit`, `FormatMissing`.
    """
    if record.unserved is not None:
        raise DoesNotFit(f"{record.id} is not served: {record.unserved}")
    wanted = [record.stored_as(stored)] if stored else list(record.weights)
    smallest = min(weights.size_bytes for weights in wanted)
    if profile.backend is Backend.CPU and smallest > profile.memory_gb * GB:
        raise DoesNotFit(f"its weights take {smallest / GB:.1f} GB of {profile.memory_gb}")
    asked = context_tokens or 0
    if record.context_tokens is not None and asked > record.context_tokens:
        raise DoesNotFit(f"{record.id} has a context of {record.context_tokens:,} tokens, not {asked:,}")
    fitting: list[Placement] = []
    reasons: list[tuple[Format, str]] = []
    for weights in wanted:
        try:
            fitting.append(_smallest(record, profile, weights, sizes, asked))
        except DoesNotFit as refusal:
            reasons.append((weights.format, str(refusal)))
        if fitting and fitting[-1].nodes == 1:
            return fitting[-1]
    if fitting:
        return fitting[0]
    raise DoesNotFit(_told(reasons))


def on_hardware(record: ModelRecord, profile: Profile) -> OnHardware:
    """What the record says of the profile, the narrower word over the wider one."""
    found = OnHardware()
    for kind in profile.kinds:
        if (more := record.hardware.get(kind)) is not None:
            found = OnHardware(
                kv_cache=more.kv_cache or found.kv_cache,
                sequences_max=more.sequences_max or found.sequences_max,
                memory_share=more.memory_share or found.memory_share,
                flags=found.flags + more.flags,
                environment=found.environment | more.environment,
            )
    return found


def kv_layout(cache: KvCache, shape: Shape, profile: Profile) -> KvLayout:
    """How vLLM stores the cache when told this.

    Sparse attention runs on FlashMLA on Hopper, which has an FP8 layout of its own, and on FlashInfer, with a plain
    one, on Blackwell. Where it is not known, the larger one is reckoned with. Source: vLLM 0.32,
    `_canonicalize_sparse_mla_kv_cache_dtype`.
    """
    if cache is KvCache.AUTO:
        return KvLayout.BF16
    sparse = isinstance(shape.attention, Latent) and shape.attention.indexer is not None
    return KvLayout.FP8_DS_MLA if sparse and profile.generation != "blackwell" else KvLayout.FP8


def _smallest(
    record: ModelRecord, profile: Profile, weights: Weights, sizes: Sizes | None, asked: int
) -> Placement:
    assert record.shape is not None, f"{record.id} is served and has no shape"
    _expect_able(record.shape, profile, weights)
    fewest = _recommended(record, profile, weights)
    closest: Placement | None = None
    for candidate in [sizes] if sizes else sizes_to_try(record.shape, profile):
        expect_divisible(record.shape, profile, candidate)
        if candidate.gpus < fewest and not sizes:
            continue
        placement = _fill(record, profile, weights, candidate)
        if placement.context_tokens >= max(asked, min(CONTEXT_TOKENS_MIN, record.context_tokens or 0)):
            return replace(placement, context_tokens=asked or placement.context_tokens)
        closest = placement
    if closest is None:
        raise DoesNotFit(f"it wants {fewest} GPUs, more than {NODES_MAX} nodes of {profile.gpus_a_node} have")
    raise DoesNotFit(_shortage(closest, asked))


def _recommended(record: ModelRecord, profile: Profile, weights: Weights) -> int:
    """The fewest GPUs that the maker or the recipe names, for some of the context; 0 where nobody does."""
    named = [
        minimum.gpus
        for minimum in record.minimums
        if (minimum.format, minimum.profile) == (weights.format, profile.id) and not minimum.whole_context
    ]
    return max(named, default=0)


def _expect_able(shape: Shape, profile: Profile, weights: Weights) -> None:
    if isinstance(shape.attention, Latent) and shape.attention.indexer is not None:
        if profile.sparse_attention is None:
            raise DoesNotFit("whether vLLM's sparse attention runs there is not known")
        if not profile.sparse_attention:
            raise DoesNotFit("vLLM's sparse attention does not run there")
    able = profile.formats.get(weights.format)
    if able is None:
        raise DoesNotFit("whether it computes with such weights is not known")
    if not able:
        raise DoesNotFit("it does not compute with such weights")


def _fill(record: ModelRecord, profile: Profile, weights: Weights, sizes: Sizes) -> Placement:
    """The placement of these sizes, whether or not it fits."""
    shape = record.shape
    assert shape is not None
    assert record.context_tokens is not None
    hardware = on_hardware(record, profile)
    cache = hardware.kv_cache or weights.kv_cache or KvCache.AUTO
    share = hardware.memory_share or memory.MEMORY_SHARE
    on_gpu = profile.backend is not Backend.CPU
    given = int(profile.memory_gb * GB * share) if on_gpu else profile.memory_gb * GB
    overhead = memory.OVERHEAD_BYTES if on_gpu else 0
    tensor, pipeline = sizes.tensor, sizes.pipeline
    in_weights = memory.weights_bytes(
        shape, weights.size_bytes, record.parameters, tensor=tensor, pipeline=pipeline, data=sizes.data
    )
    left = given - in_weights - overhead
    drafts = record.speculation.tokens if record.speculation else 0
    room = Memory(
        given_bytes=given,
        weights_bytes=in_weights,
        overhead_bytes=overhead,
        token_bytes=memory.token_bytes(
            shape,
            layout=kv_layout(cache, shape, profile),
            drafting=drafts > 0,
            tensor=tensor,
            pipeline=pipeline,
        ),
        sequence_bytes=memory.sequence_bytes(shape, draft_tokens=drafts, tensor=tensor, pipeline=pipeline),
        pool_bytes=min(left, profile.engine.kv_cache_bytes or left),
    )
    usual = min(SEQUENCE_TOKENS_USUAL, record.context_tokens)
    at_once = hardware.sequences_max or profile.engine.sequences_max
    spread = record.expert_parallel or weights.expert_parallel or sizes.expert or sizes.data > 1
    return Placement(
        model=record.id,
        profile=profile.id,
        format=weights.format,
        gpus=sizes.gpus if on_gpu else 0,
        nodes=-(-sizes.gpus // max(1, profile.gpus_a_node)),
        tensor=sizes.tensor,
        pipeline=sizes.pipeline,
        data=sizes.data,
        expert=sizes.tensor * sizes.data if spread and shape.experts else 1,
        kv_cache=cache,
        context_tokens=_context(record.context_tokens, room.pool_tokens),
        sequences_max=max(1, min(at_once, room.sequences(usual))),
        memory_share=share,
        memory=room,
    )


def _context(wanted: int, pool_tokens: int) -> int:
    possible = int(pool_tokens * CONTEXT_SHARE)
    return wanted if possible >= wanted else possible // CONTEXT_STEP * CONTEXT_STEP


def _shortage(closest: Placement, asked: int) -> str:
    room = closest.memory
    on = f"{closest.gpus} GPU{'s' if closest.gpus > 1 else ''}"
    sum_of = (
        f"of {room.given_bytes / GB:.1f} GB each, {room.weights_bytes / GB:.1f} go to weights and "
        f"{room.overhead_bytes / GB:.1f} to the engine"
    )
    if room.pool_bytes <= 0:
        return f"too large for {on}: {sum_of}"
    return (
        f"too little room for requests on {on}: {sum_of}, which leaves a context of {closest.context_tokens:,} "
        f"tokens where {max(asked, CONTEXT_TOKENS_MIN):,} are wanted"
    )


def _told(reasons: list[tuple[Format, str]]) -> str:
    """Each reason once, with the formats that it holds for; alone without them when it holds for all."""
    by_reason: dict[str, list[str]] = {}
    for stored, reason in reasons:
        by_reason.setdefault(reason, []).append(stored)
    if len(by_reason) == 1:
        return next(iter(by_reason))
    return "; ".join(f"{', '.join(formats)}: {reason}" for reason, formats in by_reason.items())
