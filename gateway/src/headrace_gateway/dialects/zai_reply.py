"""An engine's whole reply as Z.ai's clients read it."""

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.openai_reply import without_output

_encode = msgspec.json.encode

NULL = msgspec.Raw(b"null")

Raws = dict[str, msgspec.Raw]

FINISHES = {"content_filter": "sensitive", "abort": "network_error", "error": "network_error"}
"""What ends a choice, where Z.ai has another word for it."""


class Reply(msgspec.Struct):
    choices: list[Raws]
    id: str = ""
    created: int = 0
    usage: msgspec.Raw = NULL


class Total(msgspec.Struct):
    total_tokens: int = 0


_reply = msgspec.json.Decoder(Reply).decode
_message = msgspec.json.Decoder(Raws).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text = msgspec.json.Decoder(str | None).decode
_total = msgspec.json.Decoder(Total).decode


def read_completion(
    body: bytes, deployment: Deployment, *, request_id: str | None
) -> tuple[bytes, bytes | None]:
    """The reply as the client gets it, under the name of the model it asked for; and the engine's usage."""
    try:
        reply = _reply(body)
        usage = None if bytes(reply.usage) == b"null" else bytes(reply.usage)
        choices = [
            {
                "index": index,
                "finish_reason": finish_reason(
                    _text(choice.get("finish_reason", b"null")),
                    usage,
                    context_tokens=deployment.context_tokens,
                ),
                "message": message_fields(_message(choice["message"])),
            }
            for index, choice in enumerate(reply.choices)
        ]
    except (msgspec.MsgspecError, RecursionError, KeyError) as error:
        raise NoCompletion(str(error)) from error
    fields = {
        "id": reply.id,
        "request_id": request_id or reply.id,
        "created": reply.created,
        "object": "chat.completion",
        "model": deployment.model,
        "choices": choices,
        "usage": reply.usage,
    }
    return _encode(fields), usage


def withheld(body: bytes) -> bytes:
    """The same answer with nothing in its choices."""
    fields = _message(body)
    empty = {"role": "assistant", "content": ""}
    choices = [
        {"index": index, "finish_reason": FINISHES["content_filter"], "message": empty}
        for index in range(len(_list(fields["choices"])))
    ]
    fields["choices"] = msgspec.Raw(_encode(choices))
    return _encode(without_output(fields))


def message_fields(fields: Raws) -> Raws:
    """Of a message, or of what is new in one: Z.ai calls reasoning by another name, and knows no other fields."""
    renamed = {
        "role": "role",
        "content": "content",
        "reasoning": "reasoning_content",
        "tool_calls": "tool_calls",
    }
    return {
        renamed[name]: raw
        for name, raw in fields.items()
        if name in renamed and (name == "content" or bytes(raw) != b"null")
    }


def finish_reason(reason: str | None, usage: bytes | None, *, context_tokens: int) -> str | None:
    if reason == "length" and usage is not None and _total(usage).total_tokens >= context_tokens:
        return "model_context_window_exceeded"
    return reason if reason is None else FINISHES.get(reason, reason)
