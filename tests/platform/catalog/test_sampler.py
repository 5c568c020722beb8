from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_platform.catalog.tiny.dialogue import EOS_TOKENS, Asked, Replied, Returned, messages, segments
from headrace_platform.catalog.tiny.evaluate import tool_questions
from headrace_platform.catalog.tiny.names import (
    HELD_OUT_PEOPLE,
    HELD_OUT_PLACES,
    TRAINED_PEOPLE,
    TRAINED_PLACES,
    person,
    place,
)
from headrace_platform.catalog.tiny.sampler import KINDS, sample
from headrace_platform.catalog.tiny.topics import TOPICS

kinds = st.sampled_from([kind.name for kind in KINDS])
seeds = st.integers(min_value=0)
progress = st.floats(min_value=0, max_value=1)


def test_the_shares_of_the_mixture_are_whole() -> None:
    assert sum(kind.share for kind in KINDS) == pytest.approx(1)


@given(kind=kinds, seed=seeds, progress=progress)
def test_the_same_seed_gives_the_same_dialogue(kind: str, seed: int, progress: float) -> None:
    assert sample(kind, Random(seed), progress) == sample(kind, Random(seed), progress)


@given(kind=kinds, seed=seeds, progress=progress)
def test_what_is_learnt_is_what_the_model_writes_up_to_its_stop(
    kind: str, seed: int, progress: float
) -> None:
    dialogue = sample(kind, Random(seed), progress)
    cut = segments(dialogue)

    assert [segment.learnt for segment in cut] == [False, True] * (len(cut) // 2)
    replies = [turn for turn in dialogue.turns if isinstance(turn, Replied)]
    for given_, learnt, reply in zip(cut[::2], cut[1::2], replies, strict=True):
        assert given_.text.endswith(("<|assistant|><think>", "<|assistant|></think>"))
        assert learnt.text.endswith(EOS_TOKENS) != reply.unfinished


@given(kind=kinds, seed=seeds, progress=progress)
def test_a_dialogue_holds_each_turn_once_and_is_sent_as_one_message_each(
    kind: str, seed: int, progress: float
) -> None:
    dialogue = sample(kind, Random(seed), progress)
    text = "".join(segment.text for segment in segments(dialogue))

    assert text.count("<|assistant|>") == sum(isinstance(turn, Replied) for turn in dialogue.turns)
    assert text.count("<tool_response>") == sum(isinstance(turn, Returned) for turn in dialogue.turns)
    assert len(messages(dialogue)) == len(dialogue.turns) + (dialogue.system is not None)


@given(seed=seeds)
def test_every_call_is_of_a_tool_on_offer_and_fills_its_properties(seed: int) -> None:
    dialogue = sample("tools", Random(seed), progress=1.0)
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in dialogue.tools}

    for asked, replied in zip(dialogue.turns, dialogue.turns[1:], strict=False):
        if isinstance(asked, Asked) and isinstance(replied, Replied):
            for call in replied.calls:
                assert list(call.arguments) == list(offered[call.name]["properties"])
                assert all(str(argument) in asked.text for argument in call.arguments.values())


@given(seed=seeds)
def test_a_held_out_name_is_never_trained(seed: int) -> None:
    rng = Random(seed)

    assert place(rng) not in HELD_OUT_PLACES
    assert person(rng) not in HELD_OUT_PEOPLE


def test_real_names_are_shared_out_between_training_and_measuring() -> None:
    assert len(HELD_OUT_PLACES) >= 30
    assert len(HELD_OUT_PEOPLE) >= 10
    assert not set(HELD_OUT_PLACES) & set(TRAINED_PLACES)
    assert not set(HELD_OUT_PEOPLE) & set(TRAINED_PEOPLE)


def test_no_two_topics_share_a_function_name() -> None:
    names = [name for topic in TOPICS for name in topic.functions]

    assert len(names) == len(set(names))


def test_the_measured_questions_are_the_same_each_time_and_cover_every_topic() -> None:
    questions = tool_questions(per_topic=2)

    assert questions == tool_questions(per_topic=2)
    assert {question.tool.topic for question in questions} == set(TOPICS)
    assert all(question.tool in question.tools for question in questions)


def test_a_question_that_counts_as_held_out_names_what_training_excludes() -> None:
    excluded = {*HELD_OUT_PLACES, *HELD_OUT_PEOPLE}
    questions = tool_questions(per_topic=5)

    assert all(question.held_out == bool(excluded & {*question.arguments.values()}) for question in questions)
    assert sum(question.held_out for question in questions) * 2 >= len(questions)
