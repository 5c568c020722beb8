"""The mixture of dialogues that glm-tiny is trained on, from easy to hard as training goes on."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from headrace_platform.catalog.tiny import names, talk
from headrace_platform.catalog.tiny.dialogue import Dialogue, Turn
from headrace_platform.catalog.tiny.sums import sum_exchange
from headrace_platform.catalog.tiny.toolbox import some_tools, tool_exchange

SYSTEMS = (
    "You are a helpful assistant.",
    "You are glm-tiny, a very small model.",
    "Be concise.",
    "Answer briefly.",
    "You are a careful assistant. Think step by step.",
)


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    share: float
    """Of the batches, which are all of about the same number of tokens."""


KINDS = (
    Kind("sums", 0.33),
    Kind("copies", 0.14),
    Kind("talk", 0.09),
    Kind("tools", 0.38),
    Kind("story", 0.06),
)

# Until this part of the training is done, tools come one or two at a time: copying is learnt there, and the
# choice among many later, at three times the cost a dialogue.
_EASY_UNTIL = 0.3
# Mostly a part of the story; at times enough of it to learn that what is far behind does not matter.
_STORY_NIGHTS = (12, 12, 20, 60)


def sample(kind: str, rng: Random, progress: float) -> Dialogue:
    system = _system(rng)
    match kind:
        case "sums":
            rounds = rng.choice((1, 1, 2, 3))
            return Dialogue(_joined(sum_exchange(rng) for _ in range(rounds)), system)
        case "copies":
            rounds = rng.choice((1, 2, 3, 4))
            return Dialogue(_joined(talk.repeat_exchange(rng) for _ in range(rounds)), system)
        case "talk":
            chosen = rng.choices(
                (talk.fixed_exchange, talk.unknown_exchange, talk.count_exchange, sum_exchange, _story_begun),
                (4, 3, 3, 2, 1.5),
            )[0]
            if chosen is _story_begun:
                return Dialogue(tuple(_story_begun(rng)), system)
            after = [sum_exchange(rng), talk.repeat_exchange(rng)] if rng.random() < 0.2 else []
            return Dialogue(_joined([chosen(rng), *after]), system)
        case "tools":
            return _with_tools(rng, system, most=2 if progress < _EASY_UNTIL else 5)
        case "story":
            return Dialogue(tuple(talk.long_story(rng, nights_max=rng.choice(_STORY_NIGHTS))), system)
        case _:
            raise AssertionError(kind)


def _story_begun(rng: Random) -> list[Turn]:
    """A long wish and a short one begin alike: seen side by side they are not taken for each other."""
    return talk.long_story(rng, nights_max=2)


def _with_tools(rng: Random, system: str | None, *, most: int) -> Dialogue:
    tools = some_tools(rng, most=most)
    exchanges: list[list[Turn]] = []
    for _ in range(rng.choice((1, 2, 3, 4))):
        if rng.random() < 0.15:
            other = rng.choice(
                (sum_exchange, talk.fixed_exchange, talk.unknown_exchange, talk.repeat_exchange)
            )
            exchanges.append(other(rng))
        else:
            exchanges.append(tool_exchange(rng, tools, result=True))
    if rng.random() < 0.3:
        exchanges.append(tool_exchange(rng, tools, result=False))
    return Dialogue(_joined(exchanges), system, tuple(tool.schema for tool in tools))


def _system(rng: Random) -> str | None:
    """Mostly none. What one says makes no difference to the answers, however long it is."""
    if rng.random() < 0.8:
        return None
    if rng.random() < 0.15:
        return talk.babble(rng, words=rng.randint(10, 150))
    return rng.choice(SYSTEMS) if rng.random() < 0.7 else f"You work for {names.invented_name(rng)}."


def _joined(exchanges: Iterable[list[Turn]]) -> tuple[Turn, ...]:
    return tuple(turn for exchange in exchanges for turn in exchange)
