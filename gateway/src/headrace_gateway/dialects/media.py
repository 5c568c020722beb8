"""Images and audio in the content of messages: found before admission, because they cost tokens and name addresses.

What must stay true: an engine that can read media fetches whatever address a message names, from inside the
cluster. So no address reaches one unless its host is allowed by setting; and none can be hidden from here by
writing JSON in another way. Audio is never fetched: how long it is could not be told. Most prompts hold neither, and
finding that out must cost no second parse.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_gateway.dialects.audio import Clip, check_clip
from headrace_gateway.dialects.audio_parts import clip_of, is_audio
from headrace_gateway.dialects.fields import Fields
from headrace_gateway.errors import InvalidRequest, NotOffered

MARKS = (b'_url"', b'"image', b'audio"', b'_embeds"')
ITEM_MARKS = (*MARKS, b'_image"')
"""Where a conversation has items, an image may have an id in the place of an address."""
ESCAPE = b"\\u00"
"""One of these stands in every content that names media or an address, however it is written."""

HIDING_MARKS = (b"\\u004", b"\\u005", b"\\u006", b"\\u007")
"""Letters and `_` written as escapes, which nobody does by accident."""

OTHER_MEDIA = frozenset(
    ("video_url", "image_pil", "image_embeds", "audio_embeds", "video_embeds", "prompt_embeds")
)

DATA_URL = "data:image/"
SHOWN_CHARACTERS = 80


class Message(msgspec.Struct):
    """Of a conversation, or an item of one."""

    content: msgspec.Raw = msgspec.Raw(b"null")
    output: msgspec.Raw = msgspec.Raw(b"null")
    """Of a tool, in the dialect that has items."""


_messages = msgspec.json.Decoder(list[Message]).decode
_content = msgspec.json.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class Media:
    """What the images and the audio of a request amount to."""

    images: int = 0
    clips: tuple[Clip, ...] = field(default=())
    inline_bytes: int = 0
    """Bytes of the body that are an image or audio and no text."""
    addresses: tuple[str, ...] = field(default=())
    """From where images would be fetched."""
    held_in: str = "messages"
    """The request's field that they were found in."""


NO_MEDIA = Media()


def read_media(fields: Fields, name: str = "messages", *, takes_audio: bool = False) -> Media:
    """Of a request's conversation. `takes_audio`: whether its dialect has a word for it.

    Raises `InvalidRequest` for media that can't be.
    """
    raw = fields.get(name)
    marks = MARKS if name == "messages" else ITEM_MARKS
    if raw is None or not _may_hold_media(memory := bytes(raw), marks):
        return NO_MEDIA
    try:
        contents = [
            bytes(content) for message in _messages(memory) for content in (message.content, message.output)
        ]
        parts = [
            part
            for content in contents
            if content.startswith(b"[") and _may_hold_media(content, marks)
            for part in _parts(_content(content))
        ]
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(f"`{name}` must be a list of objects.", param=name) from None
    spoken: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    for part in parts:
        (spoken if is_audio(part) else seen).append(part)
    if spoken and not takes_audio:
        raise NotOffered("Audio is not taken here. Send what was said as text.", param=name)
    heard = [clip_of(part) for part in spoken]
    sources = [source for part in seen if (source := _source(part, name)) is not None]
    inline = [source for source in sources if source.startswith(DATA_URL)]
    return Media(
        images=len(sources),
        clips=tuple(clip for clip, _ in heard),
        inline_bytes=sum(len(source) - len(DATA_URL) for source in inline) + sum(size for _, size in heard),
        addresses=tuple(source for source in sources if not source.startswith(DATA_URL)),
        held_in=name,
    )


def check_media(media: Media, deployment: Deployment, *, hosts: Container[str]) -> None:
    """Raises for media that the model can't read, or that it would have to fetch from anywhere."""
    if media is NO_MEDIA:
        return
    if media.clips:
        _check_clips(media.clips, deployment)
    if media.images and not deployment.image_tokens_max:
        raise NotOffered(
            f"The model {deployment.model!r} reads text alone. Send no images, or ask a model that sees.",
            param=media.held_in,
        )
    for address in media.addresses:
        if not _is_allowed(address, hosts):
            raise InvalidRequest(
                f"The image address {address[:SHOWN_CHARACTERS]!r} is not fetched from here."
                " Send the image itself, as `data:image/png;base64,…`.",
                param=media.held_in,
            )


def _check_clips(clips: Iterable[Clip], deployment: Deployment) -> None:
    hearing = deployment.hearing
    if hearing is None:
        raise NotOffered(
            f"The model {deployment.model!r} does not hear. Send what was said as text, or ask a model that hears.",
            param="messages",
        )
    for clip in clips:
        check_clip(clip, deployment, hearing, param="messages")


def _may_hold_media(content: bytes, marks: Iterable[bytes]) -> bool:
    if any(mark in content for mark in marks):
        return True
    return ESCAPE in content and any(mark in content for mark in HIDING_MARKS)


def _parts(content: list[Any]) -> Iterator[dict[str, Any]]:
    """The parts of a content, and those inside the results of tools."""
    for part in content:
        if isinstance(part, dict):
            yield part
            if isinstance(inner := part.get("content"), list):
                yield from _parts(inner)


def _source(part: dict[str, Any], name: str) -> str | None:
    """An image as a data URL or an address; null where the part is no image."""
    kind = part.get("type")
    if not isinstance(kind, str):
        kind = None
    if not OTHER_MEDIA.isdisjoint(part) or kind in OTHER_MEDIA:
        raise NotOffered("Of media, only images and audio are taken here.", param=name)
    if kind == "image":
        source = _anthropic_source(part.get("source"))
    elif "image_url" in part or kind in ("image_url", "input_image"):
        source = part.get("image_url")
        if isinstance(source, dict):
            source = source.get("url")
    else:
        return None
    if "uuid" in part:
        # The engine would look it up among what anybody has sent.
        raise InvalidRequest("An image is sent whole, without `uuid`.", param=name)
    if not isinstance(source, str) or not source:
        raise InvalidRequest(
            "An image must be a data URL, `data:image/png;base64,…`, or an https address.", param=name
        )
    return source


def _anthropic_source(source: Any) -> Any:
    """As the engine reads it: whatever is no address is taken for the image itself."""
    if not isinstance(source, dict):
        return None
    if source.get("type") == "url":
        return source.get("url")
    media, data = source.get("media_type"), source.get("data")
    if not isinstance(media, str) or not media.startswith("image/") or not isinstance(data, str):
        return None
    return f"data:{media};base64,{data}"


def _is_allowed(address: str, hosts: Container[str]) -> bool:
    """By the plainest reading of an address alone, so that no other reader can see another host in it."""
    if not address.isascii() or not address.isprintable() or any(sign in address for sign in '\\@ "<>'):
        return False
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "https" and port in (None, 443) and parts.hostname in hosts
