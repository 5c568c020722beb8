"""Tools as a client declares them, and exchanges in which the model calls the right one."""

from dataclasses import dataclass
from random import Random
from typing import Any

from headrace_platform.catalog.tiny import names
from headrace_platform.catalog.tiny.dialogue import Asked, Call, Replied, Returned, Turn
from headrace_platform.catalog.tiny.topics import TOPICS, Parameter, Topic


@dataclass(frozen=True, slots=True)
class Tool:
    """One topic's tool with its names chosen."""

    topic: Topic
    function: str
    about: str | None
    keys: tuple[str, ...]
    schema: dict[str, Any]

    def call(self, values: dict[str, Any]) -> Call:
        pairs = zip(self.keys, self.topic.parameters, strict=True)
        return Call(self.function, {key: values[parameter.slot] for key, parameter in pairs})


def canonical(topic: Topic) -> Tool:
    keys = tuple(parameter.keys[0] for parameter in topic.parameters)
    about = [parameter.about[0] for parameter in topic.parameters]
    schema = _schema(topic.functions[0], topic.about[0], topic.parameters, keys, about)
    return Tool(topic, topic.functions[0], topic.about[0], keys, schema)


def any_tool(rng: Random, topic: Topic) -> Tool:
    """Half of the time canonical; else names, keys, wordings and the schema's own form vary."""
    if rng.random() < 0.5:
        return canonical(topic)
    function = rng.choice(topic.functions)
    described = rng.random() < 0.7
    about = rng.choice(topic.about) if described else None
    keys = tuple(rng.choice(parameter.keys) for parameter in topic.parameters)
    if len(set(keys)) < len(keys):
        keys = tuple(parameter.keys[0] for parameter in topic.parameters)
    wordings = [rng.choice(p.about) if described and rng.random() < 0.7 else None for p in topic.parameters]
    schema = _schema(function, about, topic.parameters, keys, wordings, rng)
    return Tool(topic, function, about, keys, schema)


def some_tools(rng: Random, *, most: int) -> list[Tool]:
    topics = rng.sample(TOPICS, rng.randint(1, most))
    return [any_tool(rng, topic) for topic in topics]


def question(rng: Random, topic: Topic) -> tuple[str, dict[str, Any]]:
    values = {parameter.slot: parameter.draw(rng) for parameter in topic.parameters}
    return rng.choice(topic.questions).format(**values), values


def tool_exchange(rng: Random, tools: list[Tool], *, result: bool) -> list[Turn]:
    """A question and the call; with `result` also what the tool gave and how the model tells it."""
    tool = rng.choice(tools)
    asked, values = question(rng, tool.topic)
    call = tool.call(values)
    thinks = rng.random() < 0.65
    turns: list[Turn] = [
        Asked(asked),
        Replied("", thinking=f"I call {call.name}." if thinks else None, calls=(call,)),
    ]
    if result:
        given = str(tool.topic.result(rng)) if rng.random() < 0.7 else names.invented_word(rng)
        turns += [
            Returned(given),
            Replied(f"It is {given}.", thinking="I have the result." if thinks else None),
        ]
    return turns


def _schema(  # noqa: PLR0917
    function: str,
    about: str | None,
    parameters: tuple[Parameter, ...],
    keys: tuple[str, ...],
    wordings: list[str] | list[str | None],
    rng: Random | None = None,
) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for key, parameter, wording in zip(keys, parameters, wordings, strict=True):
        properties[key] = {"type": parameter.type}
        if parameter.choices:
            properties[key]["enum"] = list(parameter.choices)
        if wording is not None:
            properties[key]["description"] = wording
    shape: dict[str, Any] = {"type": "object", "properties": properties, "required": list(keys)}
    if rng is not None and rng.random() < 0.2:
        shape["additionalProperties"] = False
    if rng is not None and rng.random() < 0.2:
        del shape["required"]
    declared: dict[str, Any] = {"name": function, "parameters": shape}
    if about is not None:
        declared["description"] = about
    return {"type": "function", "function": declared}
