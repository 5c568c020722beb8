"""What a conversation of Anthropic's clients is known by: the words that it begins with.

What must stay true: it is the same from the first request to the last. So marks of what to cache are left out, which
clients move on to the newest message, and so is the line that coding agents put before the system's words, with another
number in each request; engines leave that out too.
"""

import msgspec

from headrace_gateway.dialects.conversation import MESSAGES_MAX
from headrace_gateway.dialects.fields import Fields

COUNTED_LINE = "x-anthropic-billing-header"

_NOTHING = msgspec.Raw(b'""')


class Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class Message(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = _NOTHING


_messages = msgspec.json.Decoder(list[Message]).decode
_content = msgspec.json.Decoder(str | list[Block]).decode


def beginning_of(fields: Fields) -> bytes | None:
    """The system's words and those of the first message of the user."""
    try:
        said = [_words(fields.get("system", _NOTHING))]
        for message in _messages(fields["messages"])[:MESSAGES_MAX]:
            said.append(_words(message.content))
            if message.role == "user":
                break
    except msgspec.MsgspecError:
        return None  # the engine will say what is wrong with it
    return "\0".join(said).encode()


def _words(raw: msgspec.Raw) -> str:
    content = _content(raw)
    if isinstance(content, str):
        return content
    return "\0".join([each.text or each.type for each in content if not each.text.startswith(COUNTED_LINE)])
