"""Patterns that an operator writes down: what they find, for whom, where, and what is no file of them."""

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.guardrails.guardrail import About
from headrace_gateway.guardrails.guards import PlugIn, PlugInInvalid, open_guards
from headrace_gateway.guardrails.patterns import Patterns, PatternsInvalid, PatternWatch

ABOUT = About(org="org_1", project="proj_1", model="glm-test")
CARD = r"""
[[pattern]]
name = "card-number"
expression = '\b(?:\d[ -]?){13,19}\b'
"""


def patterns(folder: Path, text: str) -> Patterns:
    file = folder / "patterns.toml"
    file.write_text(text)
    return Patterns(file=str(file))


async def test_a_pattern_is_found_in_any_text_and_named(tmp_path: Path) -> None:
    found = patterns(tmp_path, CARD)
    assert await found.refuses(["hello", "mine is 4111 1111 1111 1111, yours?"], ABOUT) == "card-number"
    assert await found.refuses(["hello", "in 2026 I was 411"], ABOUT) is None


async def test_a_pattern_holds_where_and_for_whom_it_says(tmp_path: Path) -> None:
    text = 'name = "word"\nexpression = "turbine"\nin = ["answer"]\norganizations = ["org_1"]'
    found = patterns(tmp_path, f"[[pattern]]\n{text}")
    assert await found.refuses(["turbine"], ABOUT) is None
    watch = found.watch(ABOUT)
    assert watch is not None
    assert await watch.refuses("a turbine", 0) == "word"
    assert found.watch(About(org="org_2", project="proj_1", model="glm-test")) is None


@given(cuts=st.lists(st.integers(0, 40), max_size=8))
async def test_a_match_is_found_however_an_answer_is_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    watch = patterns(tmp_path_factory.mktemp("patterns"), CARD).watch(ABOUT)
    assert isinstance(watch, PatternWatch)
    said = "it is 4111-1111-1111-1111, I believe so."
    edges = [0, *sorted(cuts), len(said)]
    pieces = [said[start:end] for start, end in itertools.pairwise(edges)]
    assert [found for piece in pieces if (found := await watch.refuses(piece, "content"))]


async def test_parts_of_an_answer_are_looked_at_each_for_itself(tmp_path: Path) -> None:
    watch = patterns(tmp_path, CARD).watch(ABOUT)
    assert watch is not None
    assert await watch.refuses("4111 1111", "content") is None
    assert await watch.refuses(" 1111 1111 ", "reasoning") is None
    assert await watch.refuses(" 1111 1111.", "content") == "card-number"


async def test_no_text_makes_a_pattern_take_for_ever(tmp_path: Path) -> None:
    found = patterns(tmp_path, '[[pattern]]\nname = "nested"\nexpression = "(a+)+b"')
    began = time.process_time()
    assert await found.refuses(["a" * 100_000], ABOUT) is None
    # An engine that tries all ways would take longer than the universe has been there.
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[pattern", "TOML"),
        ("[[pattern]]\nname = 'a'", "expression"),
        ("[[pattern]]\nname = 'a'\nexpression = '('", "a: "),
        ("[[pattern]]\nname = 'a'\nexpression = 'x*'", "everything"),
        ("[[pattern]]\nname = 'a'\nexpression = 'x'\nin = ['sky']", "sky"),
        ("[[pattern]]\nname = 'a'\nexpression = 'x'\nflags = 'i'", "flags"),
    ],
)
def test_what_is_no_file_of_patterns_is_refused_by_name(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(PatternsInvalid, match=r"patterns\.toml") as refused:
        patterns(tmp_path, text)
    assert why == "TOML" or why in str(refused.value)


@pytest.mark.parametrize(
    "plug_in",
    [
        PlugIn(plugin="headrace_gateway.guardrails.nowhere:Patterns"),
        PlugIn(plugin="headrace_gateway.guardrails.patterns:Nothing"),
        PlugIn(plugin="headrace_gateway.guardrails.patterns"),
        PlugIn(plugin="headrace_gateway.guardrails.patterns:Patterns", options={"files": "x"}),
        PlugIn(plugin="headrace_gateway.guardrails.patterns:Patterns", options={"file": "/nowhere.toml"}),
    ],
)
def test_a_plug_in_that_can_not_be_opened_is_named(plug_in: PlugIn) -> None:
    with pytest.raises(PlugInInvalid, match=plug_in.plugin):
        open_guards([plug_in])
