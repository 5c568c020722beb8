"""Images as Z.ai's clients send them: bare base64 where others write a data URL, which is what the engine reads."""

from typing import Any

import msgspec

from headrace_gateway.dialects.fields import Fields
from headrace_gateway.errors import InvalidRequest

MARK = b"image_url"

KINDS = {"/9j/": "jpeg", "iVBOR": "png", "R0lGOD": "gif", "UklGR": "webp"}
"""How the base64 of each format begins."""

_messages = msgspec.json.Decoder(list[Any]).decode
_encode = msgspec.json.encode


def spell_out_images(fields: Fields) -> Fields:
    raw = fields.get("messages")
    if raw is None or MARK not in bytes(raw):
        return fields
    try:
        messages = _messages(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidRequest("`messages` must be a list of messages.", param="messages") from None
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            image = part.get("image_url") if isinstance(part, dict) else None
            if isinstance(image, dict) and isinstance(url := image.get("url"), str):
                image["url"] = _spelt_out(url)
    return fields | {"messages": msgspec.Raw(_encode(messages))}


def _spelt_out(url: str) -> str:
    kind = next((kind for beginning, kind in KINDS.items() if url.startswith(beginning)), None)
    return url if kind is None else f"data:image/{kind};base64,{url}"
