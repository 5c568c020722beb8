"""Z.ai's tokenizer endpoint: how many tokens the messages have in the model's own template.

What must stay true: they are those that the same messages have as a chat's prompt. So the engine is told of thinking here
what it is told there, and the thoughts of earlier turns have the name by which it reads them: in a chat it knows both.
"""

import time
import uuid
from dataclasses import dataclass

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.fields import Fields, messages_of, model_of, read_fields, value_of
from headrace_gateway.dialects.media import Media, read_media
from headrace_gateway.dialects.zai_images import spell_out_images
from headrace_gateway.dialects.zai_thinking import Wishes, engine_fields, wishes_of

KEYWORDS = "chat_template_kwargs"
THOUGHTS = "reasoning_content"
THOUGHTS_AT_ENGINE = "reasoning"

_messages = msgspec.json.Decoder(list[Fields]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


class Tokens(msgspec.Struct):
    """What the engine says; the tokens themselves are of no interest."""

    count: int


_tokens = msgspec.json.Decoder(Tokens).decode


@dataclass(frozen=True, slots=True)
class TokenizerRequest:
    model: str
    wishes: Wishes
    fields: Fields
    media: Media
    request_id: str | None

    def upstream_body(self, deployment: Deployment) -> bytes:
        told = engine_fields(self.wishes, deployment.thinking)
        keywords = told.pop(KEYWORDS, {})
        assert isinstance(keywords, dict), keywords
        # What a chat has beside them, its engine adds to them; here nobody does.
        keywords |= told
        thinking = {KEYWORDS: keywords} if keywords else {}
        return _encode({"model": deployment.engine_model, **self.fields, **thinking})

    def read_reply(self, body: bytes) -> bytes:
        try:
            count = _tokens(body).count
        except (msgspec.MsgspecError, RecursionError) as error:
            raise NoCompletion(str(error)) from error
        name = uuid.uuid4().hex
        return _encode(
            {
                "id": name,
                "request_id": self.request_id or name,
                "created": int(time.time()),
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        )


def decode_tokenizer(body: bytes, *, clears_thinking: bool) -> TokenizerRequest:
    fields = spell_out_images(read_fields(body))
    fields["messages"] = _with_thoughts(messages_of(fields))
    return TokenizerRequest(
        model=model_of(fields),
        wishes=wishes_of(fields, clears_thinking=clears_thinking),
        fields={name: fields[name] for name in ("messages", "tools") if name in fields},
        media=read_media(fields),
        request_id=value_of(fields, "request_id", _text, "a string"),
    )


def _with_thoughts(raw: msgspec.Raw) -> msgspec.Raw:
    if THOUGHTS.encode() not in bytes(raw):
        return raw
    try:
        messages = _messages(raw)
    except msgspec.MsgspecError:
        return raw  # the engine will say what is wrong with it
    for message in messages:
        if THOUGHTS in message:
            message.setdefault(THOUGHTS_AT_ENGINE, message.pop(THOUGHTS))
    return msgspec.Raw(_encode(messages))
