"""A dialogue as the model reads it, cut into what it is given and what it has to write.

`segments` and `chat_template.jinja` must agree to the character: the trainer compares them before it starts,
because a model that was taught one form and is served another is wrong without an error.
"""

import json
from dataclasses import dataclass, field
from typing import Any

# The order gives the ids. The first ten are left out of decoded text; the others are text for the parsers.
HIDDEN_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
TAG_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<tools>",
    "</tools>",
)
EOS_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")

TOOLS_BEFORE = "<|system|># Tools\n\nFunctions you may call:\n<tools>\n"
TOOLS_AFTER = (
    "</tools>\n\nA call is written as:\n"
    "<tool_call>{name}<arg_key>{key}</arg_key><arg_value>{value}</arg_value>...</tool_call>"
)


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: dict[str, Any]

    def text(self) -> str:
        pairs = (
            f"<arg_key>{key}</arg_key>"
            f"<arg_value>{value if isinstance(value, str) else json.dumps(value)}</arg_value>"
            for key, value in self.arguments.items()
        )
        return f"<tool_call>{self.name}{''.join(pairs)}</tool_call>"


@dataclass(frozen=True, slots=True)
class Asked:
    text: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A tool's result."""

    text: str


@dataclass(frozen=True, slots=True)
class Replied:
    text: str
    thinking: str | None = None
    """Null where thinking is off."""
    calls: tuple[Call, ...] = ()
    unfinished: bool = False
    """It breaks off here, and the model shall not learn to stop at this place."""


Turn = Asked | Returned | Replied


@dataclass(frozen=True, slots=True)
class Dialogue:
    turns: tuple[Turn, ...]
    system: str | None = None
    tools: tuple[dict[str, Any], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Segment:
    text: str
    learnt: bool


def segments(dialogue: Dialogue) -> list[Segment]:
    """The whole dialogue in order. A reply ends with the role token that follows it, which is its stop."""
    given = "[gMASK]<sop>"
    if dialogue.tools:
        listed = "".join(f"{signature(tool)}\n" for tool in dialogue.tools)
        given += f"{TOOLS_BEFORE}{listed}{TOOLS_AFTER}"
    if dialogue.system is not None:
        given += f"<|system|>{dialogue.system}"

    cut: list[Segment] = []
    after_reply = False
    for turn in dialogue.turns:
        match turn:
            case Asked(text=text):
                given += text if after_reply else f"<|user|>{text}"
            case Returned(text=text):
                result = f"<tool_response>{text}</tool_response>"
                given += result if after_reply else f"<|observation|>{result}"
            case Replied(text=text, thinking=thinking, calls=calls, unfinished=unfinished):
                opened = "</think>" if thinking is None else "<think>"
                cut.append(Segment(f"{given}<|assistant|>{opened}", learnt=False))
                reasoned = "" if thinking is None else f"{thinking}</think>"
                called = "".join(call.text() for call in calls)
                stop = "" if unfinished else "<|observation|>" if calls else "<|user|>"
                cut.append(Segment(f"{reasoned}{text}{called}{stop}", learnt=True))
                given = ""
        after_reply = isinstance(turn, Replied) and not turn.unfinished
    return cut


def signature(tool: dict[str, Any]) -> str:
    function = tool["function"]
    shown = {key: function[key] for key in ("name", "description", "parameters") if function.get(key)}
    return json.dumps(shown, ensure_ascii=False)


def messages(dialogue: Dialogue) -> list[dict[str, Any]]:
    """The same dialogue as a client sends it."""
    sent: list[dict[str, Any]] = []
    if dialogue.system is not None:
        sent.append({"role": "system", "content": dialogue.system})
    for turn in dialogue.turns:
        match turn:
            case Asked(text=text):
                sent.append({"role": "user", "content": text})
            case Returned(text=text):
                sent.append({"role": "tool", "content": text})
            case Replied(text=text, thinking=thinking, calls=calls):
                reply: dict[str, Any] = {"role": "assistant", "content": text}
                if thinking is not None:
                    reply["reasoning_content"] = thinking
                if calls:
                    reply["tool_calls"] = [
                        {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                        for call in calls
                    ]
                sent.append(reply)
    return sent
