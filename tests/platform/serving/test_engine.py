"""What the engine answers, and that its own account of it is exact."""

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from headrace_contracts.deployments import STOP_STRINGS_MAX
from headrace_contracts.engine import EngineEnding, EngineRecord
from headrace_gateway.dialects.cache_salt import SALT, salt_of
from tests.platform.serving.chat import chat, chat_body, chunks, posted
from tests.support.engine import Engine
from tests.support.patience import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

# Long enough to be hung up on.
ENDLESS: dict[str, Any] = {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True}

# An abort has to reach the engine through Serve's proxy.
ABORT_SECONDS = 3.0


def ended(engine: Engine, attempt: str) -> EngineRecord:
    """The record that tells the attempt's end, once billing has it."""
    wait_until(lambda: engine.billing.ended(attempt))
    record = engine.billing.ended(attempt)
    assert record is not None
    return record


def test_a_plain_reply_and_its_record_count_the_same(engine: Engine) -> None:
    attempt = engine.attempt()
    status, reply = chat(engine, "What is 17+25?", attempt)
    assert status == 200
    assert reply["model"] == engine.model

    usage, record = reply["usage"], ended(engine, attempt)
    assert (record.prompt, record.output) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert record.cached == usage["prompt_tokens_details"]["cached_tokens"]
    assert record.ending is EngineEnding.FINISHED
    assert record.model == engine.model
    assert not record.probe
    assert record.finished_at_us is not None
    assert record.finished_at_us > record.started_at_us


def test_the_spool_holds_a_request_s_beginning_and_its_end(engine: Engine) -> None:
    attempt = engine.attempt()
    chat(engine, "What is 2+2?", attempt)
    ended(engine, attempt)
    assert [record.ending for record in engine.spooled(attempt)] == [
        EngineEnding.STARTED,
        EngineEnding.FINISHED,
    ]


def test_every_chunk_of_a_stream_carries_exact_usage_without_being_asked(engine: Engine) -> None:
    attempt = engine.attempt()
    with posted(
        engine, "/v1/chat/completions", chat_body("What is 31+12?", stream=True), attempt
    ) as response:
        assert response.status == 200
        stream = list(chunks(response))
    assert all(chunk["usage"] for chunk in stream)
    counts = [chunk["usage"]["completion_tokens"] for chunk in stream]
    assert counts == sorted(counts)

    usage, record = stream[-1]["usage"], ended(engine, attempt)
    assert (record.prompt, record.output) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert record.ending is EngineEnding.FINISHED


def test_a_prompt_that_was_seen_before_is_counted_as_cached(engine: Engine) -> None:
    prompt = "Tell me a story about a river, a mill and the miller. " * 6
    chat(engine, prompt, max_tokens=1)
    attempt = engine.attempt()
    _, reply = chat(engine, prompt, attempt, max_tokens=1)
    cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    assert ended(engine, attempt).cached == cached


def test_a_message_begins_with_its_text_where_the_template_is_told_not_to_think(engine: Engine) -> None:
    body = {
        "model": engine.model,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "What is 17+25?"}],
    }
    told: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
    for extra in (told, told | {"output_config": {"effort": "high"}}):
        with posted(engine, "/v1/messages", body | extra, engine.attempt()) as response:
            assert response.status == 200
            reply = json.loads(response.read())
        assert [block["type"] for block in reply["content"]] == ["text"]


def test_it_looks_for_as_many_strings_to_stop_at_as_the_gateway_lets_pass(engine: Engine) -> None:
    stops = [f"{number}!" for number in range(STOP_STRINGS_MAX)]
    assert chat(engine, "What is 2+2?", stop=stops)[0] == 200


def test_a_prompt_that_is_echoed_alone_counts_one_token_of_output(engine: Engine) -> None:
    attempt = engine.attempt()
    body = {"model": engine.model, "prompt": "What is 2+2?", "echo": True, "max_tokens": 0, "logprobs": 1}
    with posted(engine, "/v1/completions", body, attempt) as response:
        assert response.status == 200
        reply = json.loads(response.read())
    assert reply["choices"][0]["text"] == "What is 2+2?"
    assert reply["usage"]["completion_tokens"] == ended(engine, attempt).output == 1


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", lambda text: {"messages": [{"role": "user", "content": text}]}),
        ("/v1/messages", lambda text: {"messages": [{"role": "user", "content": text}]}),
        ("/v1/completions", lambda text: {"prompt": text}),
        ("/v1/responses", lambda text: {"input": text, "store": False}),
    ],
)
def test_what_one_organisation_has_asked_is_cached_for_no_other(
    engine: Engine, path: str, asked: Callable[[str], dict[str, Any]]
) -> None:
    bound = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    body = asked(f"Asked at {path}: a story about a river, a mill and the miller. " * 6) | {bound: 1}

    def cached(org: str) -> int:
        attempt = engine.attempt()
        salted = body | {SALT: msgspec.json.decode(salt_of({}, org))}
        with posted(engine, path, salted, attempt) as response:
            assert response.status == 200, response.read()
            response.read()
        return ended(engine, attempt).cached

    assert cached("org_1") == 0
    assert cached("org_1") > 0
    assert cached("org_2") == 0


def test_several_choices_are_one_record(engine: Engine) -> None:
    attempt = engine.attempt()
    _, reply = chat(engine, "What is 5+6?", attempt, n=3, temperature=1)
    assert len(reply["choices"]) == 3
    record = ended(engine, attempt)
    assert (record.prompt, record.output) == (
        reply["usage"]["prompt_tokens"],
        reply["usage"]["completion_tokens"],
    )


def test_several_prompts_are_one_record(engine: Engine) -> None:
    attempt = engine.attempt()
    body = {"prompt": ["1+1=", "What is the weather", "Hello"], "max_tokens": 7, "ignore_eos": True}
    with posted(engine, "/v1/completions", body, attempt) as response:
        usage = json.loads(response.read())["usage"]
    record = ended(engine, attempt)
    assert (record.prompt, record.output) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert record.output == 21


@pytest.mark.parametrize("seen", [1, 20])
def test_a_hang_up_mid_stream_stops_the_engine_and_is_recorded(engine: Engine, seen: int) -> None:
    attempt = engine.attempt()
    body = chat_body("Tell me a story", stream=True, **ENDLESS)
    with posted(engine, "/v1/chat/completions", body, attempt) as response:
        last = 0
        for chunk in chunks(response):
            last = chunk["usage"]["completion_tokens"]
            if last >= seen:
                break
    wait_until(lambda: engine.billing.ended(attempt), seconds=ABORT_SECONDS)
    record = ended(engine, attempt)
    assert record.ending is EngineEnding.ABORTED
    assert last <= record.output < 2000


def test_a_hang_up_before_a_plain_reply_is_recorded(engine: Engine) -> None:
    attempt = engine.attempt()
    body = json.dumps({"model": engine.model, **chat_body("Tell me a story", **ENDLESS)}).encode()
    host, port = engine.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            b"X-Request-Id: %b\r\nContent-Length: %d\r\n\r\n%b" % (attempt.encode(), len(body), body)
        )
        wait_until(lambda: engine.spooled(attempt))
    wait_until(lambda: engine.billing.ended(attempt), seconds=ABORT_SECONDS)
    assert ended(engine, attempt).ending is EngineEnding.ABORTED


def test_eight_at_once_are_each_counted_exactly(engine: Engine) -> None:
    attempts = [engine.attempt() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(lambda number: chat(engine, f"What is {number}+{number}?", attempts[number]), range(8))
        )
    for attempt, (status, reply) in zip(attempts, replies, strict=True):
        assert status == 200
        record = ended(engine, attempt)
        assert (record.prompt, record.output) == (
            reply["usage"]["prompt_tokens"],
            reply["usage"]["completion_tokens"],
        )


def test_a_request_that_no_gateway_sent_is_a_probe(engine: Engine) -> None:
    _, reply = chat(engine, "Hello", "not-an-attempt", max_tokens=1)

    def told() -> list[EngineRecord]:
        """Records of earlier requests may still come, so it is known by its name."""
        records = engine.billing.records()
        return [record for name, record in records.items() if name.startswith(f"{reply['id']}-")]

    wait_until(told)
    assert [record.probe for record in told()] == [True]


def test_a_request_that_the_engine_refuses_has_used_nothing(engine: Engine) -> None:
    attempt = engine.attempt()
    status, _ = chat(engine, "Hello", attempt, max_tokens=10_000_000)
    assert status == 400
    assert all(record.prompt == record.output == 0 for record in engine.spooled(attempt)[1:])


def test_thinking_and_tool_calls_come_parsed(engine: Engine) -> None:
    _, reply = chat(engine, "What is 17+25?")
    message = reply["choices"][0]["message"]
    assert "reasoning" in message
    assert "<think>" not in (message["content"] or "")

    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    _, reply = chat(
        engine, "What is the weather in Paris?", tools=[tool], tool_choice="required", max_tokens=200
    )
    assert reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_everything_listens_on_loopback_alone(engine: Engine) -> None:
    listening = [
        connection
        for process in [psutil.Process(engine.pid), *engine.processes()]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}


def test_ray_s_token_is_in_the_state_folder_for_its_owner(engine: Engine) -> None:
    token = Path(engine.state_dir, "ray-token")
    assert token.stat().st_mode & 0o777 == 0o600
    environment = psutil.Process(engine.replicas()[0].pid).environ()
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(token)


def test_the_whole_stack_fits_a_laptop(engine: Engine) -> None:
    processes = [psutil.Process(engine.pid), *engine.processes()]
    resident = sum(process.memory_full_info().pss for process in processes)
    assert resident < 5 * 2**30
