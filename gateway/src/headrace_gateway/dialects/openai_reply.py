"""An engine's whole reply in OpenAI's protocol: a completion, or a refusal."""

import re

import msgspec

from headrace_gateway.dialects.dialect import Cut, NoCompletion
from headrace_gateway.dialects.openai_stream import FINISHES
from headrace_gateway.dialects.running_counts import prompt_alone
from headrace_gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamTimedOut,
)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode

MESSAGE_CHARACTERS_MAX = 2000
"""An engine quotes the request in some errors; that much of it helps, the rest is noise."""

CONTEXT_TOKENS = re.compile(r"(?:context length|maximum model length)\D{1,8}(\d{1,12})\b", re.ASCII)
PROMPT_TOKENS = re.compile(
    r"(?:(?i:\blength) \(?|contains (?:at least )?)(\d{1,12})(?:\)| input tokens)", re.ASCII
)
"""In what vLLM says of a prompt that is too long. Where it says how many characters there are, it has counted no tokens."""


class EngineError(msgspec.Struct):
    message: str = ""
    param: str | None = None


class EngineErrorReply(msgspec.Struct):
    """vLLM nests it like OpenAI; older ones and their proxies do not."""

    error: EngineError | None = None
    message: str = ""


_error_reply = msgspec.json.Decoder(EngineErrorReply).decode


def read_completion(body: bytes, model: str, *, holding: str = "choices") -> tuple[bytes, bytes | None]:
    """The reply as the client gets it, under the name of the model it asked for; and the engine's usage.

    `holding`: the field without which it would be no answer.
    """
    try:
        fields = _fields(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NoCompletion(str(error)) from error
    if holding not in fields:
        raise NoCompletion(f"no {holding}")
    fields["model"] = msgspec.Raw(_encode(model))
    usage = fields.get("usage")
    return _encode(fields), None if usage is None or bytes(usage) == b"null" else bytes(usage)


def withheld(body: bytes, *, text: bool) -> bytes:
    """The same answer with nothing in its choices. `text`: they have a text and no message."""
    fields = _fields(body)
    empty: dict[str, object] = {"text": ""} if text else {"message": {"role": "assistant", "content": ""}}
    choices = [
        {"index": index, **empty, "logprobs": None, "finish_reason": FINISHES[Cut.WITHHELD]}
        for index in range(len(_list(fields["choices"])))
    ]
    fields["choices"] = msgspec.Raw(_encode(choices))
    return _encode(without_output(fields))


def without_output(fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """An answer's fields with a usage that counts its prompt alone."""
    usage = fields.get("usage")
    if usage is not None and bytes(usage) != b"null":
        fields["usage"] = msgspec.Raw(prompt_alone(bytes(usage)))
    return fields


def read_refusal(status: int, body: bytes) -> GatewayError:
    """What the client is told when the engine answers with anything but success."""
    if status in (408, 504):
        return UpstreamTimedOut("The model did not answer in time.")
    if status in (429, 502, 503):
        return UpstreamBusy()
    if status not in (400, 404, 413, 415, 422):
        return UpstreamFailed("The model failed to answer.")
    error = _engine_error(body)
    message = error.message[:MESSAGE_CHARACTERS_MAX] or "The model can't take this request."
    if "context length" in message or "maximum model length" in message:
        return _too_long(message)
    return InvalidRequest(message, param=error.param)


def _too_long(message: str) -> ContextLengthExceeded:
    context, prompt = CONTEXT_TOKENS.search(message), PROMPT_TOKENS.search(message)
    return ContextLengthExceeded(
        message,
        prompt_tokens=None if prompt is None else int(prompt[1]),
        context_tokens=None if context is None else int(context[1]),
    )


def _engine_error(body: bytes) -> EngineError:
    try:
        reply = _error_reply(body)
    except (msgspec.MsgspecError, RecursionError):
        return EngineError()
    return reply.error or EngineError(message=reply.message)
