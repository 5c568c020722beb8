"""The shipped weights answer as they were trained to, through vLLM under Ray Serve, on what training never showed."""

import pytest

from headrace_platform.catalog.tiny.evaluate import addition_accuracy, tool_accuracy, tool_questions
from headrace_platform.catalog.tiny.sums import PHRASINGS, held_out_pairs
from tests.support.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

# Enough for a weight file that is off to fail; `make evaluate-tiny` asks all of them.
PAIRS = 60
CALLS_PER_TOPIC = 5


@pytest.mark.parametrize("phrasing", PHRASINGS[::4])
def test_it_adds_two_digit_numbers_however_it_is_asked(engine: Engine, phrasing: str) -> None:
    score = addition_accuracy(engine.url, held_out_pairs()[:PAIRS], phrasing=phrasing, model=engine.model)
    assert score.accuracy >= 0.98, score.wrong


@pytest.mark.parametrize(("choice", "target"), [("required", 0.95), ("auto", 0.80)])
def test_it_calls_the_right_tool_with_arguments_it_has_never_seen(
    engine: Engine, choice: str, target: float
) -> None:
    score = tool_accuracy(engine.url, tool_questions(CALLS_PER_TOPIC), choice=choice, model=engine.model)
    assert score.accuracy >= target, score.wrong
