"""The formulas, against figures that were worked out apart from them or that engines have logged."""

import pytest
from msgspec import structs

from headrace_platform.catalog.memory import KvLayout, sequence_bytes, token_bytes
from headrace_platform.catalog.models import find
from headrace_platform.catalog.placement import Placement, Sizes, place
from headrace_platform.catalog.profiles import find_profile
from headrace_platform.catalog.record import Format, KvCache, OnHardware
from headrace_platform.catalog.shape import Shape


def shape(model: str) -> Shape:
    found = find(model).shape
    assert found is not None
    return found


def on(model: str, profile: str, stored: Format, gpus: int) -> Placement:
    return place(find(model), find_profile(profile), stored=stored, sizes=Sizes(tensor=gpus))


@pytest.mark.parametrize(
    ("model", "layout", "total"),
    [
        ("glm-4.5", KvLayout.BF16, 376_832),
        ("glm-4.5", KvLayout.FP8, 188_416),
        ("glm-4.5-air", KvLayout.BF16, 188_416),
        ("glm-4.7-flash", KvLayout.BF16, 54_144),
        ("glm-5", KvLayout.BF16, 89_856 + 10_296),
        ("glm-5", KvLayout.FP8_DS_MLA, 51_168 + 10_296),
        ("glm-5.2", KvLayout.FP8, 44_928 + 2_772),
        ("glm-5.2", KvLayout.FP8_DS_MLA, 51_168 + 2_772),
        ("glm-5.3-flash", KvLayout.BF16, 11_264 + 363),
        ("glm-5.3-flash", KvLayout.FP8, 5_632 + 363),
    ],
)
def test_a_token_takes_what_its_layers_keep_of_it(model: str, layout: KvLayout, total: int) -> None:
    assert token_bytes(shape(model), layout=layout, drafting=False, tensor=1, pipeline=1) == total


@pytest.mark.parametrize(("drafts", "total"), [(0, 147_619_840), (5, 935_854_080)])
def test_linear_attention_keeps_a_state_a_request_and_one_more_for_each_draft(
    drafts: int, total: int
) -> None:
    def of(model: str, *, tensor: int = 1, prefixes_cached: bool = False) -> int:
        return sequence_bytes(
            shape(model),
            draft_tokens=drafts,
            tensor=tensor,
            pipeline=1,
            prefixes_cached=prefixes_cached,
        )

    assert of("glm-5.3-flash") == total
    assert of("glm-5.3-flash", tensor=4) == total // 4
    assert of("glm-5.3-flash", prefixes_cached=True) == total // (1 + drafts) * (2 + drafts)
    assert of("glm-5.3") == 0


@pytest.mark.parametrize(
    ("model", "profile", "stored", "gpus", "expected"),
    [
        ("glm-4.7", "h100", Format.FP8, 8, (47_616, 404_275)),
        ("glm-4.7", "h200", Format.FP8, 4, (95_232, 308_719)),
        ("glm-4.7", "h200", Format.FP8, 8, (47_616, 1_557_249)),
        ("glm-4.7", "h200", Format.BF16, 8, (47_616, 617_439)),
        ("glm-4.7", "b200", Format.NVFP4, 4, (47_616, 2_184_139)),
        ("glm-4.5-air", "h100", Format.FP8, 2, (96_256, 93_500)),
        ("glm-4.5-air", "h100", Format.FP8, 4, (48_128, 758_394)),
        ("glm-4.5-air", "h200", Format.FP8, 1, (192_512, 46_230)),
        ("glm-4.5-air", "h200", Format.BF16, 2, (96_256, 123_628)),
        ("glm-4.7-flash", "h100", Format.BF16, 1, (55_296, 36_168)),
        ("glm-4.7-flash", "h200", Format.BF16, 1, (55_296, 1_029_007)),
        ("glm-4.7-flash", "h100", Format.BF16, 2, (55_296, 596_788)),
        ("glm-5.1", "h200", Format.FP8, 8, (101_436, 240_545)),
        ("glm-5.1", "b200", Format.FP8, 8, (55_932, 1_063_791)),
        ("glm-5.3", "h200", Format.FP8, 8, (54_728, 445_841)),
        ("glm-5.3", "b200", Format.FP8, 8, (48_408, 1_229_135)),
        ("glm-5.3", "b200", Format.NVFP4, 8, (48_408, 1_980_561)),
        ("glm-5.3", "b200", Format.NVFP4, 4, (48_408, 779_829)),
        ("glm-5.3", "b300", Format.FP8, 8, (48_408, 3_237_068)),
    ],
)
def test_the_pool_is_what_weights_and_engine_leave(
    model: str, profile: str, stored: Format, gpus: int, expected: tuple[int, int]
) -> None:
    """`expected` is a token's bytes on one GPU, and the tokens of the pool."""
    placement = on(model, profile, stored, gpus)
    token, pool = expected

    assert placement.memory.token_bytes == token
    assert abs(placement.pool_tokens - pool) <= 1


@pytest.mark.parametrize(
    ("profile", "gpus", "token", "pool"),
    [("h100", 8, 12_684, 1_803_453), ("h200", 4, 12_684, 2_889_467), ("b200", 4, 6_540, 10_970_948)],
)
def test_a_state_a_request_comes_out_of_the_same_pool(profile: str, gpus: int, token: int, pool: int) -> None:
    """The pools were worked out from weights rounded to 329 GB, and with no request's state in them."""
    placement = on("glm-5.3-flash", profile, Format.FP8, gpus)
    room = placement.memory

    assert room.token_bytes == token
    assert room.pool_bytes / token == pytest.approx(pool, rel=0.003)
    # Short requests are bounded by their states, not by their tokens.
    assert placement.sequences(8192) < room.pool_bytes // (8192 * token)


def test_a_published_log_of_an_engine_is_within_a_tenth() -> None:
    """GLM-5.1 FP8 on eight GPUs, 85 % of the memory, FP8 cache: 4,171 blocks of 64 tokens (LMCache #2951)."""
    record, h200 = find("glm-5.1"), find_profile("h200")
    as_logged = structs.replace(
        record, hardware={"h200": OnHardware(kv_cache=KvCache.FP8, memory_share=0.85)}
    )

    estimated = place(as_logged, h200, sizes=Sizes(tensor=8)).pool_tokens

    assert estimated == pytest.approx(4_171 * 64, rel=0.1)
    # Another one is 14.92 million tokens: GLM-5.3-Flash FP8 on four MI355X (vllm-project/recipes).
    assert on("glm-5.3-flash", "mi355x", Format.FP8, 4).pool_tokens == pytest.approx(14_920_000, rel=0.15)


def test_tensor_groups_share_out_heads_of_keys_and_repeat_latent_entries() -> None:
    def of(model: str, tensor: int) -> int:
        return token_bytes(shape(model), layout=KvLayout.BF16, drafting=False, tensor=tensor, pipeline=1)

    assert of("glm-4.7", 8) * 8 == of("glm-4.7", 1)
    # Eight heads of keys are no less than one on each of sixteen GPUs.
    assert of("glm-4.7", 16) == of("glm-4.7", 8)
    assert of("glm-5.3", 8) == of("glm-5.3", 1)
