"""Records are read from files that people write: what is wrong with one is told by model and field."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_platform.catalog.files import OWN, RecordWrong, read_folder, records
from headrace_platform.catalog.record import ModelRecord

BASE: dict[str, Any] = {
    "id": "acme-base",
    "revision": "1",
    "owned_by": "acme",
    "licence": "MIT",
    "architecture": "Glm4MoeForCausalLM",
    "parameters": 1_000,
    "parameters_active": 500,
    "context_tokens": 4096,
    "eos_ids": [1, 2],
    "tool_format": "compact",
    "tool_parser": "glm47",
    "reasoning_parser": "glm45",
    "prompt_overhead_tokens": 64,
    "flags": ["--enforce-eager"],
    "thinking": {"by_default": True, "switch": "enable_thinking", "prompt_opens": True},
    "shape": {
        "layers": 4,
        "layers_dense": 1,
        "hidden": 128,
        "vocabulary": 1024,
        "attention": {"kind": "gqa", "heads": 4, "heads_kv": 2, "head_dim": 32},
        "experts": {"routed": 8, "shared": 1, "per_token": 2, "feed_forward": 128},
    },
    "weights": [{"format": "bf16", "repository": "acme/base", "size_bytes": 2_000}],
    "price": {"input": "1.00", "output": "2.00", "source": "acme"},
}
TUNED: dict[str, Any] = {
    "id": "acme-tuned",
    "base": "acme-base",
    "revision": "2",
    "owned_by": "acme",
    "licence": "Apache-2.0",
    "weights": [{"format": "bf16", "repository": "acme/tuned", "size_bytes": 2_000}],
}


def read(*tables: dict[str, Any]) -> dict[str, ModelRecord]:
    return {record.id: record for record in records({table["id"]: table for table in tables})}


def changed(table: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """The table with the value at a dotted path, or without it where that is None."""
    copied = copy.deepcopy(table)
    *folders, last = path.split(".")
    at: Any = copied
    for folder in folders:
        at = at[int(folder)] if isinstance(at, list) else at[folder]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return copied


def test_a_fine_tune_inherits_all_but_what_is_its_own() -> None:
    both = read(BASE, TUNED)
    base, tuned = both["acme-base"], both["acme-tuned"]

    for field in ModelRecord.__struct_fields__:
        if field not in (*OWN, "base"):
            assert getattr(tuned, field) == getattr(base, field), field
    assert tuned.base == "acme-base"
    assert tuned.weights[0].repository == "acme/tuned"
    assert tuned.licence == "Apache-2.0"
    # Nobody sells it at its base's price unless somebody says so.
    assert tuned.price is None


def test_a_fine_tune_overrides_single_values_of_a_table() -> None:
    tuned = read(BASE, {**TUNED, "tool_parser": "qwen3_coder", "thinking": {"by_default": False}})[
        "acme-tuned"
    ]

    assert tuned.tool_parser == "qwen3_coder"
    assert tuned.reasoning_parser == "glm45"
    assert tuned.thinking
    assert (tuned.thinking.by_default, tuned.thinking.switch) == (False, "enable_thinking")


def test_a_fine_tune_does_without_what_it_names() -> None:
    tuned = read(BASE, {**TUNED, "without": ["thinking", "eos_ids"]})["acme-tuned"]

    assert tuned.thinking is None
    assert tuned.eos_ids is None


def test_a_fine_tune_of_a_fine_tune_goes_all_the_way_down() -> None:
    again = {**TUNED, "id": "acme-again", "base": "acme-tuned"}

    assert read(BASE, TUNED, again)["acme-again"].shape == read(BASE)["acme-base"].shape


def test_the_next_release_takes_the_shape_alone() -> None:
    following = {key: value for key, value in BASE.items() if key not in ("shape", "architecture", "flags")}
    following |= {"id": "acme-next", "same_shape_as": "acme-base"}
    both = read(BASE, following)

    assert both["acme-next"].shape == both["acme-base"].shape
    assert both["acme-next"].architecture == both["acme-base"].architecture
    assert both["acme-next"].flags == ()
    assert both["acme-next"].base is None


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("tool_parsr", "glm47", "unknown field `tool_parsr`"),
        ("context_tokens", "4096", r"Expected `int \| null`, got `str` - at `\$.context_tokens`"),
        ("parameters", None, "missing required field `parameters`"),
        ("tool_format", "tidy", r"Invalid enum value 'tidy' - at `\$.tool_format`"),
        ("shape.attention.kind", "mha", r"Invalid value 'mha' - at `\$.shape.attention.kind`"),
        ("shape.attention.heads", 0, r"Expected `int` >= 1 - at `\$.shape.attention.heads`"),
        ("shape.experts.per_token", 9, r"`shape.experts.per_token` is above `routed`"),
        ("weights.0.folder", "base", r"name one of them - at `\$.weights\[0\]`"),
        ("weights", [], r"Expected `array` of length >= 1 - at `\$.weights`"),
        ("parameters_active", 2_000, "`parameters_active` is above `parameters`"),
        ("prompt_overhead_tokens", 4096, "`prompt_overhead_tokens` must be below `context_tokens`"),
        ("architecture", None, "`architecture` is missing, without which it can't be served"),
        ("thinking", {"by_default": False}, "`thinking` is off by default and has no switch"),
        ("thinking.effort_default", "max", "`thinking.effort_default` is none of its `efforts`"),
        ("speculation", {"method": "mtp", "tokens": 1}, "`shape.layers_mtp` is 0"),
        ("aliases", ["Acme Base"], r"matching regex .* - at `\$.aliases\[0\]`"),
        ("minimums", [{"format": "fp8", "profile": "h100", "gpus": 1}], "of which `weights` has none"),
        ("price.input", "cheap", r"Invalid decimal string - at `\$.price.input`"),
        ("minimums", [{"format": "bf16", "profile": "h900", "gpus": 1}], "'h900', which is no profile"),
        ("price.output", "-1.00", "`price` is below zero"),
        ("hardware", {"h900": {"flags": ["-x"]}}, "`hardware` speaks of 'h900', which is no profile"),
        ("same_shape_as", "acme-gone", "`same_shape_as` is 'acme-gone', of which there is no record"),
        ("without", ["thinking"], "`without` names `thinking`, which it does not inherit"),
    ],
)
def test_what_is_wrong_is_told_by_model_and_field(path: str, value: object, told: str) -> None:
    with pytest.raises(RecordWrong, match=told) as caught:
        read(changed(BASE, path, value))

    assert str(caught.value).startswith("the record of acme-base is wrong: ")
    assert (caught.value.model, caught.value.code) == ("acme-base", "record_wrong")


def test_a_record_can_not_lean_on_itself() -> None:
    one = {**TUNED, "id": "one", "base": "two"}
    two = {**TUNED, "id": "two", "base": "one"}

    with pytest.raises(RecordWrong, match="it leans on itself by way of one and two"):
        read(one, two)


def test_two_records_can_not_share_a_name() -> None:
    with pytest.raises(RecordWrong, match="`acme-base` is also a name of acme-base"):
        read(BASE, {**TUNED, "aliases": ["acme-base"]})


def test_a_file_is_named_for_its_model(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('id = "acme"\nrevision = "1"\nowned_by = "a"\nlicence = "MIT"\n')

    with pytest.raises(RecordWrong, match=r"the record of other is wrong: .*missing required field"):
        read_folder(tmp_path)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.toml").write_text("id = ")

    with pytest.raises(RecordWrong, match="the record of torn is wrong: Invalid value"):
        read_folder(tmp_path)


@given(
    st.sampled_from(sorted(ModelRecord.__struct_fields__)),
    st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=5), st.lists(st.integers(), max_size=2)),
)
def test_any_other_value_is_taken_or_told_and_never_breaks_the_reader(field: str, value: object) -> None:
    spoilt = {**BASE, field: value}
    try:
        found = records({"acme-base": spoilt})
    except RecordWrong as wrong:
        assert wrong.model == "acme-base"  # noqa: PT017 (either way is right; the name is what counts)
    else:
        assert msgspec.to_builtins(found[0])["id"] == "acme-base"
