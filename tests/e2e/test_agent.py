"""An agent's whole conversation through Anthropic's own client, down to the real engine, and what the books have of it."""

import statistics
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anthropic
import pytest

from headrace_platform.demo.seller import Billing, wait_until_settled
from tests.e2e.books import Counted, known_of
from tests.e2e.conftest import DemoRun

pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]

INSTRUCTIONS = "You add numbers and tell the weather, briefly. " * 20
TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "City name"}},
            "required": ["city"],
        },
        "cache_control": {"type": "ephemeral"},
    }
]
THINKS: Any = {"type": "enabled", "budget_tokens": 1024}
SUMS = ((12, 30), (7, 8), (41, 17), (23, 54))


@dataclass
class Agent:
    """One session, its turns so far and what it was told of its requests."""

    client: anthropic.Anthropic
    model: str
    system: Any
    turns: list[Any] = field(default_factory=list)
    told: dict[str, Counted] = field(default_factory=dict)
    """By request."""
    hung_up: list[str] = field(default_factory=list)

    def say(self, content: Any, *, streamed: bool, **more: Any) -> anthropic.types.Message:
        """One turn, to its end."""
        self.turns.append({"role": "user", "content": content})
        asked, counted = self._asked(**more), self._counted()
        if streamed:
            with self.client.messages.stream(**asked) as stream:
                message = stream.get_final_message()
                request = stream.response.headers["x-request-id"]
        else:
            raw = self.client.messages.with_raw_response.create(**asked)
            message, request = raw.parse(), raw.headers["x-request-id"]
        usage = message.usage
        cached = usage.cache_read_input_tokens or 0
        prompt = usage.input_tokens + (usage.cache_creation_input_tokens or 0) + cached
        self.told[request] = Counted(prompt, cached, usage.output_tokens)
        assert counted == prompt
        self.turns.append({"role": "assistant", "content": [block.model_dump() for block in message.content]})
        return message

    def hang_up(self, content: str, *, after_deltas: int) -> int:
        """A turn that the agent breaks off and takes back; how many pieces came."""
        asked = self._asked() | {"messages": [*self.turns, {"role": "user", "content": content}]}
        raw = self.client.messages.with_raw_response.create(
            **asked | {"max_tokens": 1500, "extra_body": {"ignore_eos": True}}, stream=True
        )
        self.hung_up.append(raw.headers["x-request-id"])
        stream, deltas = raw.parse(), 0
        for event in stream:
            deltas += event.type == "content_block_delta"
            if deltas == after_deltas:
                break
        stream.close()
        return deltas

    def _asked(self, **more: Any) -> Any:
        return {
            "model": self.model,
            "max_tokens": 1100,
            "system": self.system,
            "tools": TOOLS,
            "thinking": THINKS,
            "messages": self.turns,
            # Not among what the client itself offers.
            "extra_body": {"temperature": 0},
        } | more

    def _counted(self) -> int:
        """What the gateway says that the turns so far are."""
        return self.client.messages.count_tokens(
            model=self.model, system=self.system, tools=TOOLS, thinking=THINKS, messages=self.turns
        ).input_tokens


@pytest.fixture
def agent(demo: DemoRun) -> Iterator[Agent]:
    session = f"agent-{uuid.uuid4()}"
    # Its name in front, so that nothing of it has been cached before.
    text = f"{session}. {INSTRUCTIONS}"
    system = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    with anthropic.Anthropic(
        base_url=demo.endpoints.gateway_url,
        api_key=demo.endpoints.api_key,
        max_retries=0,
        timeout=120,
        default_headers={"X-Session-Id": session},
    ) as client:
        yield Agent(client, demo.endpoints.model, system)


def test_every_turn_of_a_conversation_is_billed_as_the_engine_yielded_it(demo: DemoRun, agent: Agent) -> None:
    for number, (one, other) in enumerate(SUMS):
        message = agent.say(f"What is {one} + {other}?", streamed=bool(number % 2))
        assert [block.type for block in message.content] == ["thinking", "text"], message
    called = agent.say("What is the weather in Oslo?", streamed=True, tool_choice={"type": "any"})
    call = called.content[-1]
    assert call.type == called.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Sunny."}]}
    agent.say([result], streamed=False)
    pieces = agent.hang_up("Tell me a long story.", after_deltas=6)
    resumed = agent.say("What is 5 + 6?", streamed=True)
    assert resumed.stop_reason == "end_turn"

    known = known_of(demo, [*agent.told, *agent.hung_up])
    assert {request: known[request].billed for request in agent.told} == agent.told
    assert {request: known[request].engine for request in agent.told} == agent.told
    first, *later = agent.told.values()
    assert first.cached < 100, "the tools, which stand before the system's words"
    assert all(each.cached > 300 for each in later), "the long beginning is the same each time"
    [interrupted] = (known[request] for request in agent.hung_up)
    assert interrupted.document["ending"] == "client_gone"
    assert pieces <= interrupted.billed.output <= interrupted.engine.output < 1500
    expect_session(demo, agent, [each.document for each in known.values()])


def expect_session(demo: DemoRun, agent: Agent, requests: list[dict[str, Any]]) -> None:
    """What billing sums up of the session is what its requests have one by one, and what the ledger has."""
    session, organization = requests[0]["session"], requests[0]["organization"]
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    span = {
        "start": (hour - timedelta(hours=1)).isoformat(),
        "end": (hour + timedelta(hours=1)).isoformat(),
        "organization": organization,
        "session": session,
    }
    assert demo.endpoints.admin_token is not None
    with Billing(demo.endpoints.billing_url, demo.endpoints.admin_token) as billing:
        [item] = billing.get("/v1/usage/sessions", **span)["items"]
        [charged] = billing.get("/v1/costs", **span)["items"]
        report = wait_until_settled(billing, organization, requests=len(requests))

    completed = [each for each in requests if each["ending"] == "completed"]
    assert (item["requests"], item["completed"]) == (len(requests), len(completed))
    tokens = [each["events"][-1]["tokens"] for each in requests]
    assert {name: sum(each[name] for each in tokens) for name in tokens[0]}.items() <= item["tokens"].items()
    [cost] = item["costs"]
    assert (cost["amount"], cost["list_price"]) == (charged["amount"], charged["list_price"])
    assert Decimal(cost["amount"]) == sum(Decimal(each["list_price"]) for each in requests) > 0
    assert item["action_seconds"] == percentiles([each["duration_seconds"] for each in completed])
    firsts = [each["time_to_first_token_seconds"] for each in requests]
    assert item["time_to_first_token_seconds"] == percentiles([each for each in firsts if each is not None])
    assert report["status"] == "green", report


def percentiles(seconds: list[float]) -> Any:
    """Between the two nearest, to the millisecond."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{share}": pytest.approx(cuts[share - 1], abs=0.0011) for share in (50, 95, 99)}
