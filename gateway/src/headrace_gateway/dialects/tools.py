"""Tools as OpenAI's and Z.ai's chats describe them: functions, which the client runs."""

import msgspec

from headrace_gateway.dialects.fields import Fields, value_of
from headrace_gateway.errors import NotOffered


class Tool(msgspec.Struct):
    type: str = "function"


_tools = msgspec.json.Decoder(list[Tool]).decode


def check_functions(fields: Fields) -> int:
    """How many there are. Raises `NotOffered` for those that somebody else would have to run."""
    tools = value_of(fields, "tools", _tools, "a list of tools") or []
    for place, tool in enumerate(tools):
        if tool.type != "function":
            raise NotOffered(
                f"Tools of type {tool.type[:40]!r} are not run here. Offer it as a `function` and run it yourself.",
                param=f"tools[{place}].type",
            )
    return len(tools)
