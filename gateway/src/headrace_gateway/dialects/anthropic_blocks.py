"""Blocks and tools of Anthropic's that no engine reads: what its own servers would open, look up or run.

An engine would refuse the whole request and name every block that it does know, or leave a document out of a tool's
result without a word. So they are refused here, with what to send instead.
"""

from collections.abc import Iterator

import msgspec

from headrace_gateway.dialects.fields import Fields
from headrace_gateway.errors import NotOffered

INSTEAD = {
    "document": "Send the document's text in a `text` block.",
    "search_result": "Send what was found in a `text` block.",
    "container_upload": "There is no container here. Send the file's text in a `text` block.",
}

SERVED = ("_tool_use", "_tool_result")
"""How the types of blocks end that tell of tools which Anthropic runs; those that its client runs have no word before."""

SERVERS = "mcp_servers"
"""Which Anthropic would connect to, and offer the model what is there."""

OWN_TOOL = "custom"
"""What a tool is that its client describes and runs."""


class Block(msgspec.Struct):
    type: str = ""
    content: msgspec.Raw = msgspec.Raw(b"null")
    """Of a tool's result."""


class Message(msgspec.Struct):
    content: str | list[Block] = ""


class Tool(msgspec.Struct):
    type: str = OWN_TOOL


_messages = msgspec.json.Decoder(list[Message]).decode
_blocks = msgspec.json.Decoder(list[Block]).decode
_tools = msgspec.json.Decoder(list[Tool]).decode


def check_blocks(fields: Fields) -> None:
    """Raises `NotOffered`; what can't be read at all is the engine's to judge."""
    if SERVERS in fields and bytes(fields[SERVERS]) != b"[]":
        raise NotOffered(
            "No MCP servers are connected to from here. Connect to them yourself, and send their tools in `tools`.",
            param=SERVERS,
        )
    try:
        tools = _tools(fields["tools"]) if "tools" in fields else []
        refused = next(_refused(fields["messages"]), None)
    except msgspec.MsgspecError:
        return
    for place, tool in enumerate(tools):
        if tool.type != OWN_TOOL:
            raise NotOffered(
                f"Tools of type {tool.type[:40]!r} are not known here."
                " Describe it with `name` and `input_schema` and run it yourself.",
                param=f"tools[{place}].type",
            )
    if refused is not None:
        where, kind = refused
        advice = INSTEAD.get(
            kind, "Its tool is not run here. Leave it out, or send what came of it in a `text` block."
        )
        raise NotOffered(f"Blocks of type {kind[:40]!r} are not read here. {advice}", param=f"{where}.type")


def _refused(messages: msgspec.Raw) -> Iterator[tuple[str, str]]:
    """Where such blocks stand, and of which type they are."""
    for place, message in enumerate(_messages(messages)):
        if isinstance(message.content, str):
            continue
        for number, block in enumerate(message.content):
            if block.type in INSTEAD or block.type.endswith(SERVED):
                yield f"messages[{place}].content[{number}]", block.type
            elif block.type == "tool_result" and bytes(block.content).startswith(b"["):
                for inner, part in enumerate(_blocks(block.content)):
                    if part.type in INSTEAD:
                        yield f"messages[{place}].content[{number}].content[{inner}]", part.type
