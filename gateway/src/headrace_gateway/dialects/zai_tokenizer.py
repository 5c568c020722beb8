"""Z.ai's tokenizer endpoint: how many tokens the messages have in the model's own template."""

import time
import uuid
from dataclasses import dataclass

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.fields import Fields, messages_of, model_of, read_fields, value_of
from headrace_gateway.dialects.media import Media, read_media
from headrace_gateway.dialects.zai_images import spell_out_images

_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


class Tokens(msgspec.Struct):
    """What the engine says; the tokens themselves are of no interest."""

    count: int


_tokens = msgspec.json.Decoder(Tokens).decode


@dataclass(frozen=True, slots=True)
class TokenizerRequest:
    model: str
    fields: Fields
    media: Media
    request_id: str | None

    def upstream_body(self, deployment: Deployment) -> bytes:
        return _encode({"model": deployment.engine_model, **self.fields})

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


def decode_tokenizer(body: bytes) -> TokenizerRequest:
    fields = spell_out_images(read_fields(body))
    messages_of(fields)
    return TokenizerRequest(
        model=model_of(fields),
        fields={name: fields[name] for name in ("messages", "tools") if name in fields},
        media=read_media(fields),
        request_id=value_of(fields, "request_id", _text, "a string"),
    )
