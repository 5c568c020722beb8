"""What engines are told so that organisations share no prefix cache."""

import json
from typing import Any

import msgspec
import pytest

from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.anthropic_request import decode_messages
from headrace_gateway.dialects.conversation import beginning_of
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.dialects.embeddings import decode_embeddings
from headrace_gateway.dialects.fields import read_fields
from headrace_gateway.dialects.openai_request import decode_request
from headrace_gateway.dialects.responses_request import ResponsesRequest, decode_responses
from headrace_gateway.dialects.zai_request import decode_chat
from tests.gateway.account import DEPLOYMENT, MODEL

SALTING = msgspec.structs.replace(DEPLOYMENT, salts_cache=True)
HELLO = {"role": "user", "content": "hello"}


def chat(**fields: Any) -> InferenceRequest:
    body = {"model": MODEL, "messages": [HELLO]} | fields
    return decode_request(json.dumps(body).encode(), Dialect.OPENAI_CHAT)


def completion(**fields: Any) -> InferenceRequest:
    return decode_request(
        json.dumps({"model": MODEL, "prompt": "hello"} | fields).encode(), Dialect.OPENAI_COMPLETIONS
    )


def messages(**fields: Any) -> InferenceRequest:
    return decode_messages(
        json.dumps({"model": MODEL, "max_tokens": 5, "messages": [HELLO]} | fields).encode()
    )


def responses(**fields: Any) -> InferenceRequest:
    return decode_responses(json.dumps({"model": MODEL, "input": "hello"} | fields).encode())


def embeddings(**fields: Any) -> InferenceRequest:
    return decode_embeddings(json.dumps({"model": MODEL, "input": "hello"} | fields).encode())


@pytest.mark.parametrize("request_of", [chat, completion, messages, responses, embeddings])
def test_no_two_organisations_have_one_salt_whatever_they_send(request_of: Any) -> None:
    def sent(org: str, **fields: Any) -> dict[str, Any]:
        body = request_of(**fields).upstream_body(SALTING, output_tokens_max=None, org=org)
        return dict(json.loads(body))

    plain = sent("org_1")
    salts = {
        plain["cache_salt"],
        sent("org_2")["cache_salt"],
        sent("org_2", cache_salt=plain["cache_salt"])["cache_salt"],
        sent("org_1", cache_salt="mine")["cache_salt"],
        sent("org_2", cache_salt="mine")["cache_salt"],
    }
    assert len(salts) == 5
    assert all(salt.isalnum() and len(salt) <= 128 for salt in salts)
    assert sent("org_1") == plain
    unsalted = json.loads(request_of().upstream_body(DEPLOYMENT, output_tokens_max=None, org="org_1"))
    assert unsalted == {name: value for name, value in plain.items() if name != "cache_salt"}


def test_whose_dialect_has_no_salt_of_its_own_has_its_organisation_s() -> None:
    body = json.dumps({"model": MODEL, "messages": [HELLO], "cache_salt": "mine"}).encode()
    salts = [
        json.loads(
            decode_chat(body, clears_thinking=True).upstream_body(SALTING, output_tokens_max=None, org=org)
        )["cache_salt"]
        for org in ("org_1", "org_1", "org_2")
    ]
    assert salts[0] == salts[1] != salts[2]


def test_everything_else_reaches_the_engine_byte_for_byte() -> None:
    raw = b'{"model":"glm-test","messages":[ {"role":"user","content":"a\\u00e9"} ],"x":[1.0 , 2e3]}'
    body = decode_request(raw, Dialect.OPENAI_CHAT).upstream_body(SALTING, output_tokens_max=None, org="o")
    assert b'[ {"role":"user","content":"a\\u00e9"} ]' in body
    assert b"[1.0 , 2e3]" in body


def test_a_conversation_is_known_by_its_beginning_from_the_first_request_to_the_last() -> None:
    system, answer = {"role": "system", "content": "be kind"}, {"role": "assistant", "content": "hi"}
    begun = [system, HELLO]
    first, later, other = (
        beginning_of(read_fields(json.dumps({"messages": turns}).encode()))
        for turns in (begun, [*begun, answer, HELLO], [system, {"role": "user", "content": "bye"}])
    )
    assert first == later != other
    assert beginning_of(read_fields(b'{"messages":[1]}')) is None
    asked = responses(instructions="be kind")
    assert isinstance(asked, ResponsesRequest)
    gone_on = asked.after([msgspec.Raw(b'{"role":"user","content":"before"}')])
    assert len({asked.beginning, responses().beginning, gone_on.beginning}) == 3
    assert embeddings().beginning is None
    assert beginning_of(read_fields(b'{"prompt":"hello"}')) == b'"hello"'
