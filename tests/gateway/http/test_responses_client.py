"""OpenAI's responses through its own client: streamed or not, gone on from, hung up on, forgotten."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import CustomToolParam, FunctionToolParam, ResponseInputParam

from headrace_contracts.usage import Dialect, Ending, TokenCounts
from headrace_gateway.dialects.responses_request import ITEMS_MAX
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import MODEL, Account
from tests.gateway.http.stack import Stack, running_stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

SAY: FunctionToolParam = {"type": "function", "name": "say", "parameters": {"type": "object"}, "strict": None}


async def test_a_response_that_thinks(stack: Stack) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2))
    response = await stack.openai.responses.create(
        model=MODEL, input="hello", instructions="Be brief.", max_output_tokens=50
    )

    assert response.output_text == " word3 word4 word5"
    assert (response.model, response.status) == (MODEL, "completed")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 5)
    body = stack.engine.last.body
    assert body == {
        "model": "engine-name",
        "input": [{"role": "user", "content": "hello"}],
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "store": False,
    }
    [event] = await stack.settled()
    assert event.dialect is Dialect.OPENAI_RESPONSES
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=3, reasoning=2)


@pytest.mark.parametrize("running_counts", [True, False])
async def test_a_stream_is_relayed_event_by_event_and_billed_to_the_token(
    stack: Stack, running_counts: bool
) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2, continuous_usage=running_counts, tokens=20))
    async with stack.openai.responses.stream(model=MODEL, input="hello") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()

    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == final.output_text
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.model == MODEL
    [event] = await stack.settled()
    assert event.ending is Ending.COMPLETED
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=18, reasoning=2)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_conversation_goes_on_through_another_gateway(
    stack: Stack,
    settings: MeterSettings,
    tmp_path: Path,
    unused_port: Callable[[], int],
    streamed: bool,
) -> None:
    stack.engine.behave(Behaviour(tool=True))
    if streamed:
        async with stack.openai.responses.stream(model=MODEL, input="hello", tools=[SAY]) as stream:
            first: Any = await stream.get_final_response()
    else:
        first = await stack.openai.responses.create(model=MODEL, input="hello", tools=[SAY])
    call = first.output[-1]

    (tmp_path / "other").mkdir()
    elsewhere = replace(settings, name="other", state_dir=tmp_path / "other")
    async with running_stack(stack.account, elsewhere, unused_port()) as other:
        told: ResponseInputParam = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
        ]
        second = await other.openai.responses.create(
            model=MODEL, input=told, previous_response_id=first.id, tools=[SAY]
        )
        sent = other.engine.last.body

    assert second.previous_response_id == first.id
    assert "previous_response_id" not in sent
    assert [item.get("type", item.get("role")) for item in sent["input"]] == [
        "user",
        "function_call",
        "function_call_output",
    ]
    assert (await stack.openai.responses.retrieve(second.id)).output_text == second.output_text
    third = await stack.openai.responses.create(model=MODEL, input="thanks", previous_response_id=second.id)
    assert third.output_text
    assert len(stack.engine.last.body["input"]) == 5
    # What is gone on from makes room first.
    index = stack.account.client.zrange("hr:responses:gone-on-from:org_1", 0, -1)
    assert index == [f"hr:response:project_1:{each.id}".encode() for each in (first, second)]


async def test_an_item_that_is_referred_to_is_sent_whole_through_any_gateway(gateways: list[Stack]) -> None:
    first, other = gateways
    first.engine.behave(Behaviour(tool=True, thinking_tokens=1))
    response = await first.openai.responses.create(model=MODEL, input="hello", tools=[SAY])
    thought, call = response.output
    assert call.type == "function_call"
    asks: Any = [
        {"role": "user", "content": "hello"},
        {"type": "item_reference", "id": thought.id},
        {"type": "item_reference", "id": call.id},
        {"type": "function_call_output", "call_id": call.call_id, "output": "done"},
    ]
    await other.openai.responses.create(model=MODEL, input=asks, tools=[SAY], store=False)
    told = [asks[0], thought.to_dict(), call.to_dict(), asks[3]]
    assert other.engine.last.body["input"] == told

    await first.openai.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError) as refused:
        await other.openai.responses.create(model=MODEL, input=asks, tools=[SAY])
    assert (refused.value.code, refused.value.param) == ("item_not_found", "input")
    assert len(other.engine.attempts) == 1
    await first.settled(2)


async def test_a_caller_that_hangs_up_pays_the_last_count_it_was_given_and_nothing_is_kept(
    stack: Stack,
) -> None:
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.01))
    stream = await stack.openai.responses.create(model=MODEL, input="hello", stream=True)
    deltas, response_id = 0, ""
    async for event in stream:
        if event.type == "response.created":
            response_id = event.response.id
        deltas += event.type == "response.output_text.delta"
        if deltas == 4:
            break
    await stream.close()

    [billed] = await stack.settled()
    assert (billed.ending, billed.tokens.cache_read) == (Ending.CLIENT_GONE, 3)
    await eventually(lambda: stack.engine.last.ending == "aborted")
    assert deltas <= billed.tokens.output <= stack.engine.last.yielded < 60
    with pytest.raises(openai.NotFoundError):
        await stack.openai.responses.retrieve(response_id)


async def test_money_that_ends_leaves_a_response_of_what_was_said(stack: Stack) -> None:
    stack.account.fund(200)
    stack.engine.behave(Behaviour(tokens=400, thinking_tokens=3, before_each_seconds=0.001))
    stream = await stack.openai.responses.create(model=MODEL, input="hello", stream=True)
    events = [event async for event in stream]

    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.sequence_number == len(events) - 1
    response = last.response
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert response.output_text == said
    [billed] = await stack.settled()
    assert billed.ending is Ending.BUDGET_STOPPED
    assert response.usage is not None
    assert response.usage.output_tokens == billed.tokens.output == len(said.split()) + 3
    assert 200 - 10 < billed.tokens.total <= 200
    assert (await stack.openai.responses.retrieve(response.id)).output_text == said


async def test_money_that_ends_amid_a_custom_tool_s_call_leaves_what_was_given_of_it(stack: Stack) -> None:
    stack.account.fund(200)
    stack.engine.behave(Behaviour(tokens=400, tool=True, before_each_seconds=0.001))
    tool: CustomToolParam = {"type": "custom", "name": "say"}
    stream = await stack.openai.responses.create(model=MODEL, input="hello", stream=True, tools=[tool])
    events = [event async for event in stream]

    last = events[-1]
    assert last.type == "response.incomplete"
    [call] = last.response.output
    assert call.type == "custom_tool_call"
    given = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert call.input == "".join(given) != ""
    assert call.to_dict()["status"] == "incomplete"

    stack.account.fund(1_000_000)
    await stack.openai.responses.create(model=MODEL, input="and?", previous_response_id=last.response.id)
    assert [item["role"] for item in stack.engine.last.body["input"]] == ["user", "user"]
    await stack.settled(2)


async def test_a_response_is_another_project_s_secret(stack: Stack) -> None:
    response = await stack.openai.responses.create(model=MODEL, input="hello")
    stranger = Account(stack.account.client, secret="hr-" + "s" * 43, id="2")
    stranger.push_project()
    stranger.push_key()
    stranger.fund(1_000_000)
    other = stack.openai.with_options(api_key=stranger.secret)

    with pytest.raises(openai.NotFoundError):
        await other.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError):
        await other.responses.delete(response.id)
    with pytest.raises(openai.BadRequestError) as refused:
        await other.responses.create(model=MODEL, input="and?", previous_response_id=response.id)
    assert (refused.value.code, refused.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )
    reference: ResponseInputParam = [{"type": "item_reference", "id": str(response.output[0].id)}]
    with pytest.raises(openai.NotFoundError) as unknown:
        await other.responses.create(model=MODEL, input=reference)
    assert unknown.value.code == "item_not_found"
    assert (await stack.openai.responses.retrieve(response.id)).id == response.id
    await stack.settled()


async def test_a_response_is_shown_until_it_is_deleted(stack: Stack) -> None:
    response = await stack.openai.responses.create(model=MODEL, input="hello")
    assert (await stack.openai.responses.retrieve(response.id)).to_dict() == response.to_dict()

    reply = await stack.http.delete(f"/v1/responses/{response.id}")
    assert reply.json() == {"id": response.id, "object": "response", "deleted": True}
    for ask in (stack.http.get, stack.http.delete):
        reply = await ask(f"/v1/responses/{response.id}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "response_not_found")
    reply = await stack.http.get("/v1/responses/none?stream=true")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "stream")
    for path in ("input_tokens", "compact"):
        reply = await stack.http.post(f"/v1/responses/{path}", json={})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "path_unknown")
        assert "is not offered" in reply.json()["error"]["message"]
    reply = await stack.http.post(f"/v1/responses/{response.id}", json={})
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, DELETE")
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="hr-" + "x" * 43) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.responses.retrieve(response.id)
    await stack.settled()


async def test_what_the_client_wants_kept_nowhere_is_kept_nowhere(stack: Stack) -> None:
    response = await stack.openai.responses.create(model=MODEL, input="hello", store=False)
    with pytest.raises(openai.NotFoundError):
        await stack.openai.responses.retrieve(response.id)
    assert stack.account.client.keys("hr:response*") == []
    await stack.settled()


async def test_a_stream_that_breaks_off_ends_in_an_error_of_its_own_kind_and_is_not_kept(
    stack: Stack,
) -> None:
    stack.engine.behave(Behaviour(break_after=2), Behaviour(error_event_after=2))
    for _ in range(2):
        reply = await stack.post("/v1/responses", model=MODEL, input="hello", stream=True)
        blocks = reply.text.removesuffix("\n\n").split("\n\n")
        assert blocks[-1].startswith("event: error\n")
        *_, before, last = [json.loads(block.partition("data: ")[2]) for block in blocks]
        assert last == {
            "type": "error",
            "code": "upstream_failed",
            "message": "The model's answer broke off.",
            "param": None,
            "sequence_number": before["sequence_number"] + 1,
        }
    events = await stack.settled(2)
    assert [(each.ending, each.tokens.output) for each in events] == [(Ending.UPSTREAM_FAILED, 2)] * 2
    assert stack.account.client.keys("hr:response*") == []


async def test_openai_s_client_knows_the_error_of_a_stream(stack: Stack) -> None:
    stack.engine.behave(Behaviour(break_after=2))
    stream = await stack.openai.responses.create(model=MODEL, input="hello", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "error"
    assert (last.code, last.sequence_number) == ("upstream_failed", 6)
    await stack.settled()


async def test_a_message_without_parts_is_refused_however_it_is_written(stack: Stack) -> None:
    body = b'{"model":"%b","input":[{"role":"user","content":"a"},{"role":"assistant","content":[\n ]}]}'
    reply = await stack.http.post("/v1/responses", content=body % MODEL.encode())
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input[1].content")
    assert stack.engine.attempts == []


EVIL = {"type": "input_image", "image_url": "http://169.254.169.254/"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"input": 1}, "invalid_request"),
        ({"input": [{"role": "user", "content": [EVIL]}]}, "not_offered"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [EVIL]}]}, "not_offered"),
        ({"input": [{"type": "message", "role": "assistant", "content": []}]}, "invalid_request"),
        (
            {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
            "invalid_request",
        ),
        ({"input": [{}] * (ITEMS_MAX + 1)}, "invalid_request"),
        ({"input": [{"type": "item_reference"}]}, "invalid_request"),
        ({"input": [{"type": "item_reference", "id": "msg_2"}] * 2}, "invalid_request"),
        ({"input": "hello", "background": True}, "not_offered"),
        ({"input": "hello", "prompt": {"id": "p"}}, "not_offered"),
        ({"input": "hello", "previous_input_messages": []}, "not_offered"),
        ({"input": "hello", "max_output_tokens": 0}, "invalid_request"),
        ({"input": "hello", "previous_response_id": ""}, "invalid_request"),
        ({"input": "hello", "previous_response_id": "x" * 129}, "invalid_request"),
    ],
)
async def test_what_can_t_be_asked(stack: Stack, body: dict[str, Any], code: str) -> None:
    reply = await stack.post("/v1/responses", model=MODEL, **body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, code), reply.text
    assert error["param"] != "messages"
    assert stack.engine.attempts == []


async def test_an_image_that_is_kept_elsewhere_is_refused_and_not_left_out(stack: Stack) -> None:
    """An engine would answer as if there were none."""
    stack.offer(image_tokens_max=50)
    image = {"type": "input_image", "file_id": "file-1", "detail": "auto"}
    asked = [{"role": "user", "content": [{"type": "input_text", "text": "what is it?"}, image]}]
    reply = await stack.post("/v1/responses", model=MODEL, input=asked)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_request", "input")
    assert "data URL" in error["message"]
    assert stack.engine.attempts == []


async def test_no_image_is_fetched_from_anywhere(stack: Stack) -> None:
    stack.offer(image_tokens_max=50)
    output = {"type": "function_call_output", "call_id": "c", "output": [EVIL]}
    reply = await stack.post("/v1/responses", model=MODEL, input=[output])
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_request", "input")
    assert stack.engine.attempts == []
