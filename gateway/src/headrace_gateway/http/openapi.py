"""`/v1/openapi.json`: what is read here of each request, what is answered, and what refusals look like in each dialect.

Fields that are not named pass to the engine as they are, or are ignored where a dialect ignores them; so every schema
of a request is open. Dialects' own documentation says what such fields mean.
"""

from typing import Any

import msgspec

from headrace_gateway.dialects.audio import AUDIO_BYTES_MAX
from headrace_gateway.dialects.audio import FORMATS as AUDIO_FORMATS
from headrace_gateway.dialects.fields import OUTPUT_TOKENS_MAX
from headrace_gateway.dialects.forms import FILE_BASE64
from headrace_gateway.dialects.openai_request import CHOICES_MAX
from headrace_gateway.dialects.responses_request import RESPONSE_ID_CHARACTERS_MAX
from headrace_gateway.dialects.transcription import FORMATS, HOTWORDS_MAX, OUTPUT
from headrace_gateway.dialects.zai_request import REQUEST_ID_CHARACTERS, TOOLS_MAX, USER_ID_CHARACTERS
from headrace_gateway.http.problems import STATUSES
from headrace_gateway.http.shapes import ANTHROPIC_ROOTS, ANTHROPIC_TYPES, ZAI_ROOTS

Schema = dict[str, Any]

DESCRIPTION = (
    "One endpoint for OpenAI's, Anthropic's and Z.ai's clients. Every answer to a key carries `x-request-id`, each "
    "refusal a stable code, and what a model answers the served revision and how its limits stand."
)

JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "multipart/form-data"
TEXT = "text/plain"


def document() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Headrace gateway", "version": "1", "description": DESCRIPTION},
            "paths": _paths(),
            "components": {
                "schemas": {
                    "OpenAIError": _openai_error(),
                    "AnthropicError": _anthropic_error(),
                    "ZaiError": _zai_error(),
                },
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, `hr-…`."},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
        }
    )


def _paths() -> Schema:
    paths: Schema = {
        "/v1/chat/completions": {"post": _post("OpenAI", "Chat completion", _chat(), streams=True)},
        "/v1/completions": {"post": _post("OpenAI", "Completion", _completion(), streams=True)},
        "/v1/responses": {"post": _post("OpenAI", "Response", _responses(), streams=True)},
        "/v1/responses/{response_id}": {
            "get": _of_one("OpenAI", "A stored response", "response_id"),
            "delete": _of_one("OpenAI", "Forget a stored response", "response_id"),
        },
        "/v1/embeddings": {"post": _post("OpenAI", "Embeddings", _embeddings())},
        "/v1/audio/transcriptions": {"post": _heard("OpenAI", {FORM: _transcription()}, says=(JSON, TEXT))},
        "/v1/models": {"get": _get("OpenAI", "The models that the key may use", takes_api_key=True)},
        "/v1/models/{model}": {"get": _of_one("OpenAI", "A model", "model", takes_api_key=True)},
        "/healthz": {"get": _open_to_all("The process answers", ready=False)},
        "/readyz": {"get": _open_to_all("Requests can be admitted", ready=True)},
    }
    for root in ANTHROPIC_ROOTS:
        paths[f"{root}/v1/messages"] = {"post": _post("Anthropic", "Message", _messages(), streams=True)}
        paths[f"{root}/v1/messages/count_tokens"] = {
            "post": _post("Anthropic", "Count a message's tokens, for free", _counted())
        }
    beneath = ANTHROPIC_ROOTS[1]
    paths[f"{beneath}/v1/models"] = {"get": _get("Anthropic", "The models that the key may use")}
    paths[f"{beneath}/v1/models/{{model}}"] = {"get": _of_one("Anthropic", "A model", "model")}
    for root in ZAI_ROOTS:
        paths[f"{root}/chat/completions"] = {
            "post": _post("Zai", "Chat completion", _zai_chat(), streams=True)
        }
        paths[f"{root}/tokenizer"] = {
            "post": _post("Zai", "Count messages' tokens, for free", _zai_tokenizer())
        }
        paths[f"{root}/models"] = {"get": _get("Zai", "The models that the key may use")}
        paths[f"{root}/models/{{model}}"] = {"get": _of_one("Zai", "A model", "model")}
    spoken = {FORM: _zai_transcription(as_form=True), JSON: _zai_transcription(as_form=False)}
    paths[f"{ZAI_ROOTS[0]}/audio/transcriptions"] = {"post": _heard("Zai", spoken, says=(JSON,))}
    return paths


def _post(dialect: str, summary: str, body: Schema, *, streams: bool = False) -> Schema:
    return _get(dialect, summary, streams=streams) | {
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "parameters": [
            _header("Idempotency-Key", "A repetition is answered with the first outcome, and not charged."),
            _header("X-Session-Id", "Keeps a session's requests together, and its usage."),
            _header("X-Task-Id", "The task that the request works on."),
            _header("X-Task-Attempt", "Which attempt at it.", {"type": "integer", "minimum": 1}),
        ]
        if streams
        else [],
    }


def _heard(dialect: str, bodies: dict[str, Schema], *, says: tuple[str, ...]) -> Schema:
    """`bodies` by the media type that they are sent as; `says`: those of an answer in one piece."""
    operation = _post(dialect, "Write down a recording", {}, streams=True)
    content = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
    operation["requestBody"]["content"] = content
    answers = operation["responses"]["200"]["content"]
    answers |= {media_type: {"schema": {"type": "string"}} for media_type in says if media_type != JSON}
    return operation


def _get(dialect: str, summary: str, *, streams: bool = False, takes_api_key: bool = False) -> Schema:
    content: Schema = {JSON: {"schema": {"type": "object"}}}
    if streams:
        content[EVENTS] = {"schema": EVENT}
    return {
        "tags": [dialect],
        "summary": summary,
        "security": [
            {"bearer": []},
            *([{"apiKey": []}] if takes_api_key or dialect == "Anthropic" else []),
        ],
        "responses": {
            "200": {"description": "Served.", "content": content},
            "default": {
                "description": "Refused; nothing was charged.",
                "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{dialect}Error"}}},
            },
        },
    }


def _of_one(dialect: str, summary: str, name: str, *, takes_api_key: bool = False) -> Schema:
    parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return _get(dialect, summary, takes_api_key=takes_api_key) | {"parameters": [parameter]}


def _open_to_all(summary: str, *, ready: bool) -> Schema:
    answer = {
        "description": summary,
        "content": {JSON: {"schema": _object({"status": {"type": "string"}}, "status")}},
    }
    return {
        "tags": ["Health"],
        "summary": summary,
        "responses": {"200": answer, "503": answer} if ready else {"200": answer},
    }


def _header(name: str, description: str, schema: Schema | None = None) -> Schema:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": schema or {"type": "string", "minLength": 1, "maxLength": 128},
    }


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


MODEL = {"type": "string", "minLength": 1, "description": "An id or alias; `id@revision` pins."}
MESSAGES = {"type": "array", "items": {"type": "object"}, "minItems": 1}
TOKENS = {"type": "integer", "minimum": 1, "maximum": OUTPUT_TOKENS_MAX}
FLAG = {"type": "boolean"}
EVENT = {
    "type": "object",
    "description": "Each event of the stream.",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
STREAM = {"stream": FLAG, "stream_options": _object({"include_usage": FLAG, "continuous_usage_stats": FLAG})}
RECORDING = {
    "type": "string",
    "format": "binary",
    "description": f"{AUDIO_FORMATS}, at most {AUDIO_BYTES_MAX} bytes.",
}
CHOICES = {"type": "integer", "minimum": 1, "maximum": CHOICES_MAX}


def _chat() -> Schema:
    fields = {"max_tokens": TOKENS, "max_completion_tokens": TOKENS, "n": CHOICES, "user": {"type": "string"}}
    return _object({"model": MODEL, "messages": MESSAGES} | STREAM | fields, "model", "messages")


def _completion() -> Schema:
    prompt = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    fields = {"prompt": prompt, "max_tokens": TOKENS, "n": CHOICES, "best_of": CHOICES}
    return _object({"model": MODEL} | STREAM | fields, "model", "prompt")


def _responses() -> Schema:
    given = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
    previous = {"type": "string", "minLength": 1, "maxLength": RESPONSE_ID_CHARACTERS_MAX}
    fields = {"input": given, "previous_response_id": previous, "store": FLAG, "stream": FLAG}
    return _object({"model": MODEL, "max_output_tokens": TOKENS} | fields, "model", "input")


def _embeddings() -> Schema:
    given = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    return _object({"model": MODEL, "input": given}, "model", "input")


def _messages() -> Schema:
    fields = {"messages": MESSAGES, "max_tokens": TOKENS, "stream": FLAG}
    return _object({"model": MODEL} | fields, "model", "messages", "max_tokens")


def _counted() -> Schema:
    return _object({"model": MODEL, "messages": MESSAGES}, "model", "messages")


def _zai_chat() -> Schema:
    fields = {
        "stream": FLAG,
        "tool_stream": FLAG,
        "do_sample": FLAG,
        "max_tokens": TOKENS,
        "tools": {"type": "array", "items": {"type": "object"}, "maxItems": TOOLS_MAX},
        "user_id": _text(USER_ID_CHARACTERS),
        "request_id": _text(REQUEST_ID_CHARACTERS),
    }
    return _object({"model": MODEL, "messages": MESSAGES} | fields, "model", "messages")


def _zai_tokenizer() -> Schema:
    fields = {"messages": MESSAGES, "request_id": {"type": "string"}}
    return _object({"model": MODEL} | fields, "model", "messages")


def _transcription() -> Schema:
    fields = {
        "file": RECORDING,
        "language": {"type": "string"},
        "prompt": {"type": "string"},
        "response_format": {"type": "string", "enum": list(FORMATS)},
        "temperature": {"type": "number"},
        "stream": FLAG,
        OUTPUT: TOKENS,
    }
    return _object({"model": MODEL} | fields, "model", "file")


def _zai_transcription(*, as_form: bool) -> Schema:
    hotwords = {"type": "array", "items": {"type": "string"}, "maxItems": HOTWORDS_MAX}
    fields = {
        "prompt": {"type": "string"},
        "hotwords": hotwords,
        "stream": FLAG,
        "user_id": _text(USER_ID_CHARACTERS),
        "request_id": _text(REQUEST_ID_CHARACTERS),
        FILE_BASE64: {"type": "string", "contentEncoding": "base64"},
    }
    if as_form:
        return _object({"model": MODEL, "file": RECORDING} | fields, "model")
    return _object({"model": MODEL} | fields, "model", FILE_BASE64)


def _text(characters: tuple[int, int]) -> Schema:
    least, most = characters
    return {"type": "string", "minLength": least, "maxLength": most}


def _openai_error() -> Schema:
    error = {
        "message": {"type": "string"},
        "type": {"type": "string", "enum": sorted({kind for _, kind in STATUSES.values()})},
        "param": {"type": ["string", "null"]},
        "code": {"type": "string", "enum": sorted(STATUSES)},
    }
    return _object({"error": _object(error, *error)}, "error")


def _anthropic_error() -> Schema:
    error = {
        "type": {"type": "string", "enum": sorted(set(ANTHROPIC_TYPES.values()))},
        "message": {"type": "string"},
        "code": {"type": "string", "enum": sorted(STATUSES)},
    }
    return _object({"type": {"const": "error"}, "error": _object(error, *error)}, "type", "error")


def _zai_error() -> Schema:
    error = {
        "code": {"type": "string", "pattern": "^[0-9]+$"},
        "message": {"type": "string"},
        "type": {"type": "string", "enum": sorted(STATUSES)},
    }
    return _object({"error": _object(error, *error)}, "error")
