import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from headrace_platform.catalog.memory import GB
from headrace_platform.catalog.models import GLM_TINY, MODELS, find
from headrace_platform.catalog.placement import DoesNotFit, Placement, Sizes, place
from headrace_platform.catalog.profiles import LOCAL_CPU, PROFILES, ProfileUnknown, find_profile
from headrace_platform.catalog.record import Format, ModelRecord

SERVED = [record for record in MODELS if record.unserved is None]
GPUS = [profile for profile in PROFILES.values() if profile.gpus_a_node]


def placed(model: str, profile: str, stored: Format | None = None) -> Placement:
    return place(find(model), find_profile(profile), stored=stored)


@pytest.mark.parametrize("record", SERVED, ids=lambda record: record.id)
def test_no_placement_has_fewer_gpus_than_the_recipe_names(record: ModelRecord) -> None:
    for minimum in record.minimums:
        if minimum.whole_context:
            continue
        placement = place(record, find_profile(minimum.profile), stored=minimum.format)
        assert placement.gpus >= minimum.gpus


@pytest.mark.parametrize(
    ("model", "profile", "stored", "gpus"),
    [
        ("glm-4.5", "h100", Format.FP8, 8),
        ("glm-4.5", "h100", Format.BF16, 16),
        ("glm-4.5", "h200", Format.FP8, 4),
        ("glm-4.5", "h200", Format.BF16, 8),
        ("glm-4.5-air", "h100", Format.FP8, 2),
        ("glm-4.5-air", "h100", Format.BF16, 4),
        ("glm-4.5-air", "h200", Format.FP8, 1),
        ("glm-4.5-air", "h200", Format.BF16, 2),
        ("glm-4.7-flash", "h100", Format.BF16, 1),
        ("glm-5", "h200", Format.FP8, 8),
        ("glm-5", "h20", Format.FP8, 8),
    ],
)
def test_memory_alone_leads_to_the_published_minimum(
    model: str, profile: str, stored: Format, gpus: int
) -> None:
    without_the_recipe = structs.replace(find(model), minimums=())

    assert place(without_the_recipe, find_profile(profile), stored=stored).gpus == gpus


def test_the_newest_model_takes_a_node_of_eight_h200() -> None:
    placement = placed("glm-5.3", "h200")

    assert (placement.format, placement.gpus, placement.nodes) == (Format.FP8, 8, 1)
    assert (placement.tensor, placement.pipeline, placement.data, placement.expert) == (8, 1, 1, 1)


def test_the_tiny_model_takes_no_gpu_here() -> None:
    placement = place(GLM_TINY, LOCAL_CPU)

    assert (placement.gpus, placement.nodes, placement.context_tokens) == (0, 1, GLM_TINY.context_tokens)
    assert placement.sequences_max == 16


def test_twenty_heads_are_not_shared_out_over_eight_gpus() -> None:
    flash, h100 = find("glm-4.7-flash"), find_profile("h100")

    with pytest.raises(DoesNotFit, match="20 attention heads can't be shared out over 8 GPUs"):
        place(flash, h100, sizes=Sizes(tensor=8))
    assert place(flash, h100, sizes=Sizes(tensor=4)).tensor == 4


def test_what_is_too_large_for_a_node_is_divided_by_layers_over_several() -> None:
    placement = placed("glm-5.3", "h100")

    assert (placement.tensor, placement.pipeline, placement.nodes) == (8, 2, 2)


def test_a_node_with_fewer_gpus_makes_for_more_nodes() -> None:
    half = structs.replace(find_profile("h200"), gpus_a_node=4)
    without_the_recipe = structs.replace(find("glm-5.3"), minimums=())

    assert place(without_the_recipe, half).nodes == 2


def test_nodes_too_small_for_what_the_recipe_names_are_refused() -> None:
    pairs = structs.replace(find_profile("h100"), gpus_a_node=2)

    with pytest.raises(DoesNotFit, match="it wants 16 GPUs, more than 4 nodes of 2 have"):
        place(find("glm-4.5"), pairs, stored=Format.BF16)


@pytest.mark.parametrize(
    ("model", "profile", "why"),
    [
        ("glm-5.3", "a100", "sparse attention does not run there"),
        ("glm-5.3", "mi325x", "whether vLLM's sparse attention runs there is not known"),
        (
            "glm-4.7",
            "gb10",
            "bf16: too large for 4 GPUs: of 115.2 GB each, 179.0 go to weights and 8.0 to the engine",
        ),
        ("glm-4.7-flash", "local-cpu", "its weights take 62.0 GB of 1"),
        ("glm-image", "h200", "it needs vllm-omni"),
    ],
)
def test_what_does_not_fit_says_why(model: str, profile: str, why: str) -> None:
    with pytest.raises(DoesNotFit, match=why) as caught:
        placed(model, profile)

    assert caught.value.code == "does_not_fit"


def test_weights_that_the_gpu_can_not_compute_with_are_passed_over() -> None:
    assert placed("glm-4.5-air", "a100").format is Format.BF16
    with pytest.raises(DoesNotFit, match="does not compute with such weights"):
        placed("glm-4.5-air", "a100", Format.FP8)


def test_one_node_with_smaller_weights_is_better_than_two_with_the_preferred_ones() -> None:
    placement = placed("glm-5.3", "gb200")

    assert (placement.format, placement.nodes) == (Format.NVFP4, 1)


def test_a_context_that_the_cache_can_not_hold_is_shortened_and_a_longer_one_is_refused() -> None:
    air, h200 = find("glm-4.5-air"), find_profile("h200")
    placement = place(air, h200)

    assert air.context_tokens
    assert placement.context_tokens < placement.pool_tokens < air.context_tokens
    with pytest.raises(DoesNotFit, match="has a context of 131,072 tokens, not 200,000"):
        place(air, h200, context_tokens=200_000)


def test_a_context_that_was_asked_for_takes_as_many_gpus_as_it_needs() -> None:
    air, h200 = find("glm-4.5-air"), find_profile("h200")

    placement = place(air, h200, context_tokens=131_072)

    assert (placement.gpus, placement.context_tokens) == (2, 131_072)


def test_the_whole_context_of_a_million_takes_eight_b200() -> None:
    placement = placed("glm-5.3", "b200")

    assert placement.context_tokens == 1_048_576
    assert placement.sequences_max == 32


def test_data_parallel_ranks_multiply_what_tensor_groups_only_repeat() -> None:
    record, b200 = find("glm-5.3"), find_profile("b200")
    shared = place(record, b200, sizes=Sizes(tensor=8))
    ranks = place(record, b200, sizes=Sizes(tensor=1, data=8))

    assert ranks.memory.weights_bytes > shared.memory.weights_bytes
    assert ranks.pool_tokens > shared.pool_tokens
    assert ranks.expert == 8


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        (Sizes(tensor=8, data=2), "data-parallel ranks run on one node"),
        (Sizes(tensor=16), "a tensor group of 16 GPUs does not fit on a node of 8"),
        (Sizes(tensor=1, pipeline=100), "78 layers can't be shared out over 100 groups"),
    ],
)
def test_sizes_that_nothing_could_run_are_refused(sizes: Sizes, why: str) -> None:
    with pytest.raises(DoesNotFit, match=why):
        place(find("glm-5.3"), find_profile("h200"), sizes=sizes)


def test_a_dense_model_has_no_data_parallel_ranks() -> None:
    with pytest.raises(DoesNotFit, match="no experts to share out"):
        place(find("glm-4.6v-flash"), find_profile("h200"), sizes=Sizes(data=2))


def test_an_unknown_profile_is_an_error_that_a_caller_can_name() -> None:
    with pytest.raises(ProfileUnknown, match="h900") as caught:
        find_profile("h900")

    assert caught.value.code == "profile_unknown"


@given(record=st.sampled_from(SERVED), profile=st.sampled_from(GPUS), more_gb=st.integers(0, 500))
def test_whatever_is_placed_fits_and_more_memory_never_takes_more_gpus(
    record: ModelRecord, profile: object, more_gb: int
) -> None:
    found = next(candidate for candidate in GPUS if candidate is profile)
    try:
        placement = place(record, found)
    except DoesNotFit:
        return
    roomier = structs.replace(found, memory_gb=found.memory_gb + more_gb)
    room = placement.memory

    assert (
        room.weights_bytes + room.overhead_bytes + room.pool_bytes <= room.given_bytes <= found.memory_gb * GB
    )
    assert placement.context_tokens <= placement.pool_tokens
    assert placement.gpus == placement.tensor * placement.pipeline * placement.data
    for weights in record.weights:
        if weights.format is placement.format:
            assert place(record, roomier, stored=weights.format).gpus <= placement.gpus
