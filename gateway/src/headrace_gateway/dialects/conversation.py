"""What a conversation is known by from its first request to its last: its beginning."""

import msgspec

from headrace_gateway.dialects.fields import Fields

PROMPT_BYTES = 1024
"""Of a plain prompt, which has no parts."""

MESSAGES_MAX = 8
"""Before the first of the user: what the system and the developer say."""


class Message(msgspec.Struct):
    role: str = ""


_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode
_message = msgspec.json.Decoder(Message).decode


def beginning_of(fields: Fields, *, held_in: str = "messages", system: str = "system") -> bytes | None:
    """The system's words and the first message of the user, or the head of a prompt; null where there is none."""
    if held_in not in fields:
        prompt = fields.get("prompt")
        return None if prompt is None else bytes(prompt)[:PROMPT_BYTES]
    parts = [bytes(fields.get(system, b""))]
    try:
        for raw in _messages(fields[held_in])[:MESSAGES_MAX]:
            parts.append(bytes(raw))
            if _message(raw).role == "user":
                break
    except msgspec.MsgspecError:
        return None  # the engine will say what is wrong with it
    return b"\0".join(parts)
