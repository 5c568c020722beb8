"""A request in OpenAI's protocol: what the gateway reads of it, and what it changes for the engine.

What must stay true: every field that decides about money or identity is one that we read and write ourselves;
every other field reaches the engine byte for byte. A field that stands twice has one meaning, the last one, for
us and for the engine alike.
"""

import msgspec

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.bounds import prompt_bytes_of, prompt_tokens_max
from headrace_gateway.dialects.cache_salt import SALT, salt_of
from headrace_gateway.dialects.conversation import beginning_of
from headrace_gateway.dialects.dialect import JSON
from headrace_gateway.dialects.fields import (
    NOT_FOR_CLIENTS,
    OUTPUT_TOKENS_MAX,
    bounded,
    check_stops,
    flag_of,
    messages_of,
    model_of,
    read_fields,
    user_of,
    value_of,
)
from headrace_gateway.dialects.media import NO_MEDIA, Media, read_media
from headrace_gateway.dialects.openai_reply import read_completion, withheld
from headrace_gateway.dialects.openai_stream import Chunks
from headrace_gateway.dialects.tools import check_functions
from headrace_gateway.errors import FieldMissing, InvalidRequest

CHOICES_MAX = 128
"""OpenAI's own bound on `n`; here on `n` times the number of prompts."""

COMPLETION_OUTPUT_TOKENS = 16
"""What `/v1/completions` generates where nothing is asked for: OpenAI's default, and the engine's."""

SELDOM = frozenset(("n", "use_beam_search", "best_of", *NOT_FOR_CLIENTS))

_prompt = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
_encode = msgspec.json.encode


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


_stream_options = msgspec.json.Decoder(StreamOptions).decode
_STREAM_OPTIONS_UPSTREAM = msgspec.Raw(b'{"include_usage":true,"continuous_usage_stats":true}')


class OpenAIRequest(msgspec.Struct, frozen=True):
    dialect: Dialect
    model: str
    streamed: bool
    include_usage: bool
    continuous_usage: bool
    output_tokens_max: int | None
    output_field: str
    echoes_alone: bool
    """Whether the prompt is all that is wanted, for the probabilities of its tokens. The engine generates one token
    nevertheless, counts it and keeps it to itself; so one is held."""
    choices_per_prompt: int
    prompts: int
    prompt_bytes: int
    fields: dict[str, msgspec.Raw]
    media: Media = NO_MEDIA
    task: Task = Task.GENERATE
    reply_type: str = JSON
    once: str | None = None

    @property
    def choices(self) -> int:
        return self.choices_per_prompt * self.prompts

    @property
    def end_user(self) -> str | None:
        return user_of(self.fields)

    @property
    def beginning(self) -> bytes | None:
        return beginning_of(self.fields)

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        return prompt_tokens_max(self.prompt_bytes, self.media, deployment, prompts=self.prompts)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:
        """The request as the engine gets it."""
        fields = dict(self.fields)
        fields["model"] = msgspec.Raw(_encode(deployment.engine_model))
        if output_tokens_max is not None and not self.echoes_alone:
            fields[self.output_field] = msgspec.Raw(b"%d" % output_tokens_max)
        if self.streamed:
            fields["stream_options"] = _STREAM_OPTIONS_UPSTREAM
        if deployment.salts_cache:
            fields[SALT] = salt_of(self.fields, org)
        return _encode(fields)

    def check(self, deployment: Deployment) -> None:
        """Whatever a model may not know, the engine says."""

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        return read_completion(body, deployment.model)

    def withheld(self, body: bytes) -> bytes:
        return withheld(body, text=self.dialect is Dialect.OPENAI_COMPLETIONS)

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> Chunks:
        return Chunks(
            dialect=self.dialect,
            model=deployment.model,
            choices=self.choices,
            choices_per_prompt=self.choices_per_prompt,
            include_usage=self.include_usage,
            continuous_usage=self.continuous_usage,
            cached_tokens=cached_tokens,
        )


def decode_request(body: bytes, dialect: Dialect) -> OpenAIRequest:
    """Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    return _read(read_fields(body), dialect)


def _read(fields: dict[str, msgspec.Raw], dialect: Dialect) -> OpenAIRequest:
    model = model_of(fields)
    streamed = flag_of(fields, "stream")
    options = value_of(fields, "stream_options", _stream_options, "an object of booleans")
    if options is not None and not streamed:
        raise InvalidRequest("`stream_options` needs `stream: true`.", param="stream_options")
    include_usage = options is not None and bool(options.include_usage)
    prompts = _prompts(fields, dialect)
    # Nearly no request has one of these, and asking for each costs as much as all the rest.
    choices_per_prompt = 1 if SELDOM.isdisjoint(fields) else _seldom(fields, prompts)
    media = read_media(fields, takes_audio=True) if dialect is Dialect.OPENAI_CHAT else NO_MEDIA
    if "tools" in fields:
        check_functions(fields)
    if "stop" in fields:
        check_stops(fields, "stop")
    echoes_alone = dialect is Dialect.OPENAI_COMPLETIONS and _echoes_alone(fields)
    output_field, output_tokens_max = ("max_tokens", 1) if echoes_alone else _output(fields, dialect)
    return OpenAIRequest(
        dialect=dialect,
        model=model,
        streamed=streamed,
        include_usage=include_usage,
        continuous_usage=include_usage and options is not None and bool(options.continuous_usage_stats),
        output_tokens_max=output_tokens_max,
        output_field=output_field,
        echoes_alone=echoes_alone,
        choices_per_prompt=choices_per_prompt,
        prompts=prompts,
        prompt_bytes=prompt_bytes_of(fields, media, calls=b'"tool_calls"'),
        fields=fields,
        media=media,
    )


def _seldom(fields: dict[str, msgspec.Raw], prompts: int) -> int:
    """Takes away what clients may not send, and tells how many choices each prompt has."""
    choices_per_prompt = bounded(fields, "n", CHOICES_MAX) or 1
    if choices_per_prompt * prompts > CHOICES_MAX:
        raise InvalidRequest(f"`n` times the number of prompts is more than {CHOICES_MAX}.", param="n")
    _refuse_hidden_generation(fields, choices_per_prompt)
    for name in NOT_FOR_CLIENTS:
        fields.pop(name, None)
    return choices_per_prompt


def _prompts(fields: dict[str, msgspec.Raw], dialect: Dialect) -> int:
    """How many prompts the request has: each is answered by `n` choices."""
    if dialect is Dialect.OPENAI_CHAT:
        messages_of(fields)
        return 1
    prompt = value_of(fields, "prompt", _prompt, "a string, a list of strings, or tokens")
    if prompt is None or prompt == []:
        if "prompt_embeds" in fields:
            return 1
        raise FieldMissing("prompt")
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return 1
    if len(prompt) > CHOICES_MAX:
        raise InvalidRequest(f"`prompt` must be at most {CHOICES_MAX} prompts.", param="prompt")
    return len(prompt)


def _output(fields: dict[str, msgspec.Raw], dialect: Dialect) -> tuple[str, int | None]:
    """The field that bounds the output for the engine, and its value."""
    bound = bounded(fields, "max_tokens", OUTPUT_TOKENS_MAX)
    if dialect is Dialect.OPENAI_COMPLETIONS:
        return "max_tokens", bound or COMPLETION_OUTPUT_TOKENS
    newer = bounded(fields, "max_completion_tokens", OUTPUT_TOKENS_MAX)
    if newer is not None:
        # The engine prefers it too; one of them is enough.
        fields.pop("max_tokens", None)
        return "max_completion_tokens", newer
    return "max_tokens", bound


def _echoes_alone(fields: dict[str, msgspec.Raw]) -> bool:
    return bytes(fields.get("max_tokens", b"")) == b"0" and flag_of(fields, "echo")


def _refuse_hidden_generation(fields: dict[str, msgspec.Raw], choices: int) -> None:
    """What makes an engine generate more than it returns could be neither held nor stopped."""
    if flag_of(fields, "use_beam_search"):
        raise InvalidRequest("`use_beam_search` is not offered.", param="use_beam_search")
    best_of = bounded(fields, "best_of", CHOICES_MAX)
    if best_of is not None and best_of > choices:
        raise InvalidRequest("`best_of` above `n` is not offered.", param="best_of")
