"""Z.ai's own client, unmodified, down to the real engine: what the scripted one only claims about vLLM."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import zai

from tests.e2e.conftest import DemoRun

pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


@pytest.fixture
def client(demo: DemoRun) -> Iterator[zai.ZaiClient]:
    client = zai.ZaiClient(
        base_url=f"{demo.endpoints.gateway_url}/api/paas/v4", api_key=demo.endpoints.api_key, max_retries=0
    )
    yield client
    client.close()  # type: ignore[no-untyped-call]


def test_thinking_is_told_from_the_answer_and_can_be_turned_off(demo: DemoRun, client: Any) -> None:
    asked: dict[str, Any] = {
        "model": demo.endpoints.model,
        "messages": QUESTION,
        "do_sample": False,
        "max_tokens": 200,
    }
    thought = client.chat.completions.create(**asked)
    silent = client.chat.completions.create(**asked, thinking={"type": "disabled"})

    assert thought.choices[0].message.reasoning_content
    assert thought.choices[0].message.content
    assert not silent.choices[0].message.reasoning_content
    assert silent.usage.completion_tokens < thought.usage.completion_tokens
    assert thought.usage.completion_tokens_details.reasoning_tokens > 0


def test_a_stream_s_last_chunk_tells_how_it_ended_and_what_it_used(demo: DemoRun, client: Any) -> None:
    *chunks, last = client.chat.completions.create(
        model=demo.endpoints.model, messages=QUESTION, do_sample=False, max_tokens=200, stream=True
    )

    assert any(chunk.choices[0].delta.reasoning_content for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices[0].finish_reason == "stop"
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


THOUGHT = [
    *QUESTION,
    {"role": "assistant", "content": "42", "reasoning_content": "2+0=2, 1+3+0=4"},
    *QUESTION,
]


@pytest.mark.parametrize("thinking", [{"type": "enabled"}, {"type": "disabled", "clear_thinking": False}])
@pytest.mark.parametrize("messages", [QUESTION, THOUGHT], ids=["a question", "after a thought"])
@pytest.mark.parametrize("root", ["paas", "coding/paas"])
def test_the_tokenizer_counts_as_the_engine_does(
    demo: DemoRun, root: str, messages: list[Any], thinking: dict[str, Any]
) -> None:
    body = {"model": demo.endpoints.model, "messages": messages, "thinking": thinking, "max_tokens": 1}

    def prompt_tokens(path: str) -> int:
        answer = httpx2.post(
            f"{demo.endpoints.gateway_url}/api/{root}/v4/{path}",
            json=body,
            headers={"authorization": f"Bearer {demo.endpoints.api_key}"},
            timeout=60,
        )
        tokens: int = answer.json()["usage"]["prompt_tokens"]
        return tokens

    assert prompt_tokens("tokenizer") == prompt_tokens("chat/completions")
