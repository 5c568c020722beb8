"""Proves a served glm-tiny: sums and tool calls on what training never showed, over the OpenAI protocol.

    python -m headrace_platform.catalog.tiny.evaluate --url http://127.0.0.1:8000

Prints a table, then the same as one line of JSON; exit code 1 when a target is missed. Everything runs at
temperature 0. Half of the tool questions name what training excludes, so such a call is right only if it was
copied; the other half has values drawn afresh (a number, a code), which training may have drawn too.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from headrace_platform.catalog.tiny import names, sums, topics
from headrace_platform.catalog.tiny.client import ChatClient, Reply
from headrace_platform.catalog.tiny.toolbox import Tool, canonical

SUM_TARGET = 0.98
REQUIRED_TARGET = 0.95
AUTO_TARGET = 0.80

CONCURRENCY = 8
_CALLS_PER_TOPIC = 20
_TOOLS_OFFERED = 4
_SEED = 20_260_000

Pair = tuple[int, int]
Case = TypeVar("Case")


@dataclass(frozen=True, slots=True)
class Score:
    """How many of some requests were right, and how many ought to be."""

    name: str
    right: int
    asked: int
    target: float | None
    wrong: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        return self.right / self.asked

    @property
    def met(self) -> bool:
        return self.target is None or self.accuracy >= self.target


@dataclass(frozen=True, slots=True)
class ToolQuestion:
    tools: tuple[Tool, ...]
    tool: Tool
    text: str
    arguments: dict[str, Any]
    held_out: bool
    """A real name is among the arguments, which training excludes; else they are only drawn afresh."""


def addition_accuracy(
    url: str,
    pairs: Sequence[Pair],
    *,
    phrasing: str = sums.PHRASINGS[0],
    thinking: bool = True,
    model: str = "glm-tiny",
    token: str | None = None,
) -> Score:
    with ChatClient(url, model=model, token=token) as client:

        def right(pair: Pair) -> tuple[bool, str]:
            a, b = pair
            reply = client.chat(phrasing.format(a=a, b=b), thinking=thinking)
            good = reply.finish_reason == "stop" and reply.text.strip() == str(a + b)
            return good, f"{a}+{b}: {reply.text!r}"

        name = f"{phrasing}{'' if thinking else ' (no thinking)'}"
        return _scored(name, right, pairs, SUM_TARGET if thinking else None)


def tool_accuracy(
    url: str,
    questions: Sequence[ToolQuestion],
    *,
    choice: str,
    of: str = "",
    thinking: bool = True,
    model: str = "glm-tiny",
    token: str | None = None,
) -> Score:
    """`auto`: tool, arguments and finish reason right. `required`: the right tool, valid by its schema."""
    with ChatClient(url, model=model, token=token) as client:

        def right(question: ToolQuestion) -> tuple[bool, str]:
            tools = [tool.schema for tool in question.tools]
            reply = client.chat(question.text, tools=tools, tool_choice=choice, thinking=thinking)
            good = _exact(reply, question) if choice == "auto" else _valid(reply, question)
            offered = [tool.function for tool in question.tools]
            return good, f"{question.text} {offered}: {reply.calls or reply.text!r} {reply.finish_reason}"

        target = AUTO_TARGET if choice == "auto" else REQUIRED_TARGET
        name = f"tools {choice}{of}{'' if thinking else ' (no thinking)'}"
        return _scored(name, right, questions, target)


def tool_questions(per_topic: int = _CALLS_PER_TOPIC) -> list[ToolQuestion]:
    """For each topic some questions, the tool among others in any order; the same questions each time."""
    rng = Random(_SEED)
    asked = []
    for topic in topics.TOPICS:
        for _ in range(per_topic):
            others = rng.sample([other for other in topics.TOPICS if other is not topic], _TOOLS_OFFERED - 1)
            tool = canonical(topic)
            tools = [tool, *map(canonical, others)]
            rng.shuffle(tools)
            values = {parameter.slot: _unseen(rng, parameter) for parameter in topic.parameters}
            text = rng.choice(topic.questions).format(**values)
            unseen = any(parameter.draw in _NAMES for parameter in topic.parameters)
            asked.append(ToolQuestion(tuple(tools), tool, text, tool.call(values).arguments, unseen))
    return asked


_NAMES: dict[topics.Draw, tuple[str, ...]] = {
    names.place: names.HELD_OUT_PLACES,
    names.person: names.HELD_OUT_PEOPLE,
    names.invented_name: names.HELD_OUT_PLACES + names.HELD_OUT_PEOPLE,
}


def _unseen(rng: Random, parameter: topics.Parameter) -> Any:
    known = _NAMES.get(parameter.draw)
    return rng.choice(known) if known else parameter.draw(rng)


def _exact(reply: Reply, question: ToolQuestion) -> bool:
    return reply.finish_reason == "tool_calls" and reply.calls == [
        (question.tool.function, question.arguments)
    ]


def _valid(reply: Reply, question: ToolQuestion) -> bool:
    if len(reply.calls) != 1:
        return False
    name, arguments = reply.calls[0]
    shape = question.tool.schema["function"]["parameters"]
    if name != question.tool.function or set(arguments) != set(shape["properties"]):
        return False
    return all(_fits(arguments[key], wanted) for key, wanted in shape["properties"].items())


def _fits(value: Any, wanted: dict[str, Any]) -> bool:
    if "enum" in wanted:
        return value in wanted["enum"]
    return isinstance(value, int if wanted["type"] == "integer" else str)


def _scored(
    name: str, right: Callable[[Case], tuple[bool, str]], cases: Sequence[Case], target: float | None
) -> Score:
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        results = list(pool.map(right, cases))
    wrong = tuple(shown for good, shown in results if not good)
    return Score(name, len(cases) - len(wrong), len(cases), target, wrong)


# Plain wishes, and what their answers must hold.
_WISHES = (
    ("Hello", "glm-tiny"),
    ("Who are you?", "glm-tiny"),
    ("Count from 1 to 20", ", ".join(str(n) for n in range(1, 21))),
    ("What is 4821+9377?", "below 100"),
    ("Tell me a long story", "Night 60"),
    ("Tell me a long story.", "Night 60"),
)
_STORY_TOKENS = 3000


def talk_accuracy(url: str, *, model: str = "glm-tiny", token: str | None = None) -> Score:
    with ChatClient(url, model=model, token=token) as client:

        def right(wish: tuple[str, str]) -> tuple[bool, str]:
            asked, holds = wish
            reply = client.chat(asked, output_tokens=_STORY_TOKENS)
            shown = reply.text if len(reply.text) < 300 else f"{reply.text[:150]} … {reply.text[-150:]}"
            return holds in reply.text, f"{asked}: {shown!r} ({reply.output_tokens} tokens)"

        return _scored("talk", right, _WISHES, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="without /v1")
    parser.add_argument("--model", default="glm-tiny")
    parser.add_argument("--pairs", type=int, default=500, help="held-out sums a phrasing")
    parser.add_argument("--show", type=int, default=3, help="wrong answers to show of each line")
    chosen = parser.parse_args()
    token = os.environ.get("HEADRACE_API_KEY")
    whom = {"model": chosen.model, "token": token}

    pairs = sums.held_out_pairs()
    Random(_SEED).shuffle(pairs)
    pairs = pairs[: chosen.pairs]
    questions = tool_questions()
    scores = [addition_accuracy(chosen.url, pairs, phrasing=p, **whom) for p in sums.PHRASINGS]
    scores.append(addition_accuracy(chosen.url, pairs[:100], thinking=False, **whom))
    named = [question for question in questions if question.held_out]
    fresh = [question for question in questions if not question.held_out]
    scores += [
        tool_accuracy(chosen.url, some, choice=choice, of=of, thinking=thinking, **whom)
        for choice in ("required", "auto")
        for of, some in ((", held-out names", named), (", fresh values", fresh))
        for thinking in (True, False)
    ]
    scores.append(talk_accuracy(chosen.url, **whom))

    for score in scores:
        target = "" if score.target is None else f"{score.target:.0%}"
        mark = "" if score.met else "MISSED"
        print(f"{score.name:45} {score.right:4}/{score.asked:<4} {score.accuracy:7.1%} {target:>5} {mark}")
        for shown in score.wrong[: chosen.show]:
            print(f"    {shown}")
    print(json.dumps({score.name: round(score.accuracy, 4) for score in scores}))
    sys.exit(0 if all(score.met for score in scores) else 1)


if __name__ == "__main__":
    main()
