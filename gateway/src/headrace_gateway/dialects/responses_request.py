"""A request in OpenAI's responses dialect: what the gateway reads of it, and what it changes for the engine.

What must stay true: the engine keeps no state of its own, so whatever a request refers to is put into it here;
every other field reaches the engine byte for byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.bounds import prompt_bytes_of, prompt_tokens_max
from headrace_gateway.dialects.cache_salt import SALT, salt_of
from headrace_gateway.dialects.conversation import beginning_of
from headrace_gateway.dialects.dialect import JSON
from headrace_gateway.dialects.fields import (
    NOT_FOR_CLIENTS,
    OUTPUT_TOKENS_MAX,
    Fields,
    bounded,
    flag_of,
    model_of,
    read_fields,
    user_of,
    value_of,
)
from headrace_gateway.dialects.media import NO_MEDIA, Media, read_media
from headrace_gateway.dialects.response_items import check_said
from headrace_gateway.dialects.responses_reply import FinalResponse, read_response, withheld
from headrace_gateway.dialects.responses_stream import ResponseEvents
from headrace_gateway.errors import FieldMissing, InvalidRequest, ItemNotFound, NotOffered

NOT_OFFERED = ("prompt", "conversation", "previous_input_messages", "context_management")
"""What refers to things that are kept elsewhere, or that only another engine has."""

RESPONSE_ID_CHARACTERS_MAX = 128

ITEMS_MAX = 16_384
"""Of a request's own: many times what a conversation of a million tokens has. Each takes a hundred bytes besides its own,
and some of the loop's time."""

REFERENCE = "item_reference"
REFERENCE_MARK = REFERENCE.encode()


class Reference(msgspec.Struct):
    """An item of the input, of which only those are of interest that stand for one of an earlier answer."""

    type: Any = None
    id: Any = None


_text = msgspec.json.Decoder(str).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_reference = msgspec.json.Decoder(Reference).decode
_encode = msgspec.json.encode
_NOT_STORED = msgspec.Raw(b"false")


class ResponsesRequest(msgspec.Struct, frozen=True):
    model: str
    streamed: bool
    output_tokens_max: int | None
    prompt_bytes: int
    items: Sequence[msgspec.Raw]
    """The conversation so far: what the client sent, and before it what it referred to."""
    fields: Fields
    media: Media
    previous: str | None
    """The response that it goes on from."""
    stores: bool | None
    """As the client says, if it does."""
    references: Mapping[int, str]
    """Where in `items` one of an earlier answer is named by its id, which the engine can't look up."""
    final: FinalResponse = msgspec.field(default_factory=FinalResponse)
    """Filled when the answer is whole, for whoever stores it."""
    dialect: Dialect = Dialect.OPENAI_RESPONSES
    choices: int = 1
    task: Task = Task.GENERATE
    reply_type: str = JSON
    once: str | None = None

    @property
    def end_user(self) -> str | None:
        return user_of(self.fields)

    @property
    def beginning(self) -> bytes | None:
        return beginning_of(self.fields, held_in="input", system="instructions")

    def check(self, deployment: Deployment) -> None:
        """Whatever a model may not know, the engine says."""

    def after(self, earlier: Sequence[msgspec.Raw]) -> "ResponsesRequest":
        """The same request with the conversation that it goes on from."""
        return _with_items(self, [*earlier, *self.items])

    def referring_to(self, found: Mapping[str, msgspec.Raw]) -> "ResponsesRequest":
        """The same request with the items that it refers to. Raises `ItemNotFound`."""
        items = list(self.items)
        for place, item_id in self.references.items():
            if item_id not in found:
                raise ItemNotFound(item_id)
            items[place] = found[item_id]
        return replace(_with_items(self, items), references={})

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        return prompt_tokens_max(self.prompt_bytes, self.media, deployment)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:
        fields: dict[str, object] = {
            **self.fields,
            "model": deployment.engine_model,
            "store": _NOT_STORED,
        }
        if output_tokens_max is not None:
            fields["max_output_tokens"] = output_tokens_max
        if deployment.salts_cache:
            fields[SALT] = salt_of(self.fields, org)
        return _encode(fields)

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> ResponseEvents:  # noqa: ARG002
        # The running counts tell what was cached.
        return ResponseEvents(model=deployment.model, previous=self.previous, final=self.final)

    def withheld(self, body: bytes) -> bytes:
        return withheld(body, final=self.final)

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        return read_response(body, model=deployment.model, previous=self.previous, final=self.final)


def decode_responses(body: bytes) -> ResponsesRequest:
    """Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    fields = read_fields(body)
    model = model_of(fields)
    if flag_of(fields, "background"):
        raise NotOffered("Responses are not made in the background. Ask for a stream.", param="background")
    for name in NOT_OFFERED:
        if name in fields:
            raise NotOffered(f"`{name}` is not offered. Send what it stands for as `input`.", param=name)
    previous = value_of(fields, "previous_response_id", _text, "a string")
    if previous is not None and not 1 <= len(previous) <= RESPONSE_ID_CHARACTERS_MAX:
        raise InvalidRequest("`previous_response_id` is no id of a response.", param="previous_response_id")
    stores = flag_of(fields, "store") if "store" in fields else None
    for name in (*NOT_FOR_CLIENTS, "previous_response_id", "store", "background"):
        fields.pop(name, None)
    items = _items_of(fields)
    check_said(items)
    request = ResponsesRequest(
        model=model,
        streamed=flag_of(fields, "stream"),
        output_tokens_max=bounded(fields, "max_output_tokens", OUTPUT_TOKENS_MAX),
        prompt_bytes=0,
        items=(),
        fields=fields,
        media=NO_MEDIA,
        previous=previous,
        stores=stores,
        references=_references_in(items),
    )
    return _with_items(request, items)


def _items_of(fields: Fields) -> list[msgspec.Raw]:
    given = fields.get("input")
    if given is None:
        raise FieldMissing("input")
    if bytes(given).startswith(b'"'):
        return [msgspec.Raw(_encode({"role": "user", "content": given}))]
    try:
        items = _items(given)
    except msgspec.MsgspecError:
        raise InvalidRequest("`input` must be a string or a list of items.", param="input") from None
    if len(items) > ITEMS_MAX:
        raise InvalidRequest(f"`input` must have at most {ITEMS_MAX} items.", param="input")
    return items


def _references_in(items: Sequence[msgspec.Raw]) -> dict[int, str]:
    """Raises `InvalidRequest` for one that names nothing, or stands twice: nothing may become longer by repeating it."""
    references: dict[int, str] = {}
    named: set[str] = set()
    for place, raw in enumerate(items):
        if REFERENCE_MARK not in bytes(raw):
            continue
        try:
            item = _reference(raw)
        except msgspec.MsgspecError:
            continue  # the engine will say what is wrong with it
        if item.type != REFERENCE:
            continue
        if not isinstance(item.id, str) or not item.id:
            raise InvalidRequest("An `item_reference` needs the `id` of an item.", param=f"input[{place}].id")
        if item.id in named:
            raise InvalidRequest(f"The item {item.id[:128]!r} stands twice.", param=f"input[{place}].id")
        named.add(item.id)
        references[place] = item.id
    return references


def _with_items(request: ResponsesRequest, items: list[msgspec.Raw]) -> ResponsesRequest:
    fields = request.fields | {"input": msgspec.Raw(_encode(items))}
    media = read_media(fields, "input")
    return replace(
        request,
        fields=fields,
        items=items,
        media=media,
        prompt_bytes=prompt_bytes_of(fields, media, calls=b'"function_call"', held_in="input"),
    )
