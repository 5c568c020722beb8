"""An embeddings request in OpenAI's protocol: relayed as it came, under the engine's name of the model.

What must stay true: what is embedded is text or tokens and nothing else, so the bound of the hold is one of what
the engine will count.
"""

from collections.abc import Sequence

import msgspec

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.cache_salt import SALT, salt_of
from headrace_gateway.dialects.dialect import JSON, StreamReader
from headrace_gateway.dialects.fields import NOT_FOR_CLIENTS, Fields, model_of, read_fields, text_of, value_of
from headrace_gateway.dialects.media import NO_MEDIA, Media
from headrace_gateway.dialects.openai_reply import read_completion
from headrace_gateway.errors import FieldMissing, InvalidRequest

INPUTS_MAX = 2048
"""OpenAI's own bound on the inputs of one request."""

_input = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
_encode = msgspec.json.encode


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    model: str
    sizes: Sequence[int]
    """Upper bound of the tokens of each input."""
    fields: Fields
    dialect: Dialect = Dialect.OPENAI_EMBEDDINGS
    streamed: bool = False
    output_tokens_max: int | None = 0
    choices: int = 1
    media: Media = NO_MEDIA
    task: Task = Task.EMBED
    reply_type: str = JSON
    once: str | None = None

    @property
    def end_user(self) -> str | None:
        return text_of(self.fields, "user")

    @property
    def beginning(self) -> None:
        """Each stands for itself."""

    def check(self, deployment: Deployment) -> None:
        """Whatever a model may not know, the engine says."""

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        most, overhead = deployment.context_tokens, deployment.prompt_overhead_tokens
        return sum(min(size + overhead, most) for size in self.sizes)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:  # noqa: ARG002
        salt = {SALT: salt_of(self.fields, org)} if deployment.salts_cache else {}
        return _encode(self.fields | {"model": msgspec.Raw(_encode(deployment.engine_model))} | salt)

    def withheld(self, body: bytes) -> bytes:  # noqa: ARG002
        raise AssertionError("embeddings say nothing")

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> StreamReader:  # noqa: ARG002
        raise AssertionError("embeddings are never streamed")

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        return read_completion(body, deployment.model, holding="data")


def decode_embeddings(body: bytes) -> EmbeddingsRequest:
    """Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    fields = read_fields(body)
    for name in (*NOT_FOR_CLIENTS, "messages", "stream"):
        fields.pop(name, None)
    model = model_of(fields)
    given = value_of(fields, "input", _input, "a string, a list of strings, or tokens")
    if given is None:
        raise FieldMissing("input")
    return EmbeddingsRequest(model=model, sizes=_sizes(given), fields=fields)


def _sizes(given: str | list[str | int | list[int]]) -> list[int]:
    """No token is less than a byte of text."""
    if isinstance(given, str):
        return [len(given.encode("utf-8", "surrogatepass"))]
    if not given:
        raise InvalidRequest("`input` is empty.", param="input")
    if all(isinstance(each, int) for each in given):
        return [len(given)]
    if len(given) > INPUTS_MAX:
        raise InvalidRequest(f"`input` must have at most {INPUTS_MAX} entries.", param="input")
    return [_size(each) for each in given]


def _size(each: str | int | list[int]) -> int:
    if isinstance(each, int):
        raise InvalidRequest("`input` must be strings or tokens, not both.", param="input")
    return len(each.encode("utf-8", "surrogatepass")) if isinstance(each, str) else len(each)
