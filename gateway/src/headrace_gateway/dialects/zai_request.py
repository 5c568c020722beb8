"""A chat request in Z.ai's dialect, made into the one that the engine speaks.

What must stay true: only fields that are named here reach the engine, so nothing that decides about money or
identity comes through unread, and what Z.ai would ignore is ignored.
"""

import msgspec

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.bounds import prompt_bytes_of, prompt_tokens_max
from headrace_gateway.dialects.cache_salt import SALT, salt_of
from headrace_gateway.dialects.conversation import beginning_of
from headrace_gateway.dialects.dialect import JSON
from headrace_gateway.dialects.fields import (
    OUTPUT_TOKENS_MAX,
    Fields,
    bounded,
    check_stops,
    flag_of,
    messages_of,
    model_of,
    read_fields,
    text_between,
)
from headrace_gateway.dialects.media import Media, read_media
from headrace_gateway.dialects.tools import check_functions
from headrace_gateway.dialects.zai_images import spell_out_images
from headrace_gateway.dialects.zai_reply import read_completion, withheld
from headrace_gateway.dialects.zai_stream import ZaiChunks
from headrace_gateway.dialects.zai_thinking import Wishes, check_wishes, engine_fields, wishes_of
from headrace_gateway.errors import InvalidRequest

RELAYED = ("temperature", "top_p", "seed", "stop", "tools", "tool_choice", "response_format")
"""What means the same to the engine."""

SAMPLING = ("temperature", "top_p", "seed")

TOOLS_MAX = 128
USER_ID_CHARACTERS = (6, 128)
REQUEST_ID_CHARACTERS = (1, 128)

_encode = msgspec.json.encode
_GREEDY = msgspec.Raw(b"0")
_STREAM_OPTIONS = msgspec.Raw(b'{"include_usage":true,"continuous_usage_stats":true}')


class ZaiRequest(msgspec.Struct, frozen=True):
    model: str
    streamed: bool
    streams_tools: bool
    output_tokens_max: int | None
    prompt_bytes: int
    wishes: Wishes
    fields: Fields
    media: Media
    once: str | None
    end_user: str | None
    dialect: Dialect = Dialect.ZAI_CHAT
    choices: int = 1
    task: Task = Task.GENERATE
    reply_type: str = JSON

    @property
    def beginning(self) -> bytes | None:
        return beginning_of(self.fields)

    def check(self, deployment: Deployment) -> None:
        check_wishes(self.wishes, deployment)

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        return prompt_tokens_max(self.prompt_bytes, self.media, deployment)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:
        fields: dict[str, object] = {
            "model": deployment.engine_model,
            **self.fields,
            **engine_fields(self.wishes, deployment.thinking),
        }
        if output_tokens_max is not None:
            fields["max_tokens"] = output_tokens_max
        if self.streamed:
            fields |= {"stream": True, "stream_options": _STREAM_OPTIONS}
        if deployment.salts_cache:
            fields[SALT] = salt_of(self.fields, org)
        return _encode(fields)

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> ZaiChunks:
        return ZaiChunks(
            model=deployment.model,
            context_tokens=deployment.context_tokens,
            streams_tools=self.streams_tools,
            cached_tokens=cached_tokens,
        )

    def withheld(self, body: bytes) -> bytes:
        return withheld(body)

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        return read_completion(body, deployment, request_id=self.once)


def decode_chat(body: bytes, *, clears_thinking: bool) -> ZaiRequest:
    """Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    fields = spell_out_images(read_fields(body))
    model = model_of(fields)
    messages = messages_of(fields)
    media = read_media(fields, takes_audio=True)
    if check_functions(fields) > TOOLS_MAX:
        raise InvalidRequest(f"`tools` must be at most {TOOLS_MAX}.", param="tools")
    check_stops(fields, "stop")
    engine: Fields = {"messages": messages} | {name: fields[name] for name in RELAYED if name in fields}
    if "do_sample" in fields and not flag_of(fields, "do_sample"):
        # The likeliest token each time; what else is said of sampling means nothing then.
        engine = {name: raw for name, raw in engine.items() if name not in SAMPLING} | {
            "temperature": _GREEDY
        }
    return ZaiRequest(
        model=model,
        streamed=flag_of(fields, "stream"),
        streams_tools=flag_of(fields, "tool_stream"),
        output_tokens_max=bounded(fields, "max_tokens", OUTPUT_TOKENS_MAX),
        prompt_bytes=prompt_bytes_of(engine, media, calls=b'"tool_calls"'),
        wishes=wishes_of(fields, clears_thinking=clears_thinking),
        fields=engine,
        media=media,
        end_user=text_between(fields, "user_id", USER_ID_CHARACTERS),
        once=text_between(fields, "request_id", REQUEST_ID_CHARACTERS),
    )
