"""Tools as OpenAI's and Z.ai's chats describe them: functions, which the client runs."""

from typing import Any

import msgspec

from headrace_gateway.dialects.fields import Fields, value_of
from headrace_gateway.errors import InvalidRequest, NotOffered


class Function(msgspec.Struct):
    name: Any = None


class Tool(msgspec.Struct):
    type: str = "function"
    function: Function = msgspec.field(default_factory=Function)


_tools = msgspec.json.Decoder(list[Tool]).decode


def check_functions(fields: Fields) -> int:
    """How many there are. Raises `NotOffered` for those that somebody else would have to run, and `InvalidRequest` for one
    without a name: where `tool_choice` names a function, vLLM fails at such a one, with a 500."""
    tools = value_of(fields, "tools", _tools, "a list of tools") or []
    for place, tool in enumerate(tools):
        if tool.type != "function":
            raise NotOffered(
                f"Tools of type {tool.type[:40]!r} are not run here. Offer it as a `function` and run it yourself.",
                param=f"tools[{place}].type",
            )
        if not isinstance(tool.function.name, str):
            raise InvalidRequest(
                f"`tools[{place}].function` must have a `name`.", param=f"tools[{place}].function"
            )
    return len(tools)
