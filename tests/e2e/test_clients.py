"""Clients that the demo does not use, unmodified, down to the real engine: each is told what the books have."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.e2e.books import Counted, known_of
from tests.e2e.conftest import DemoRun

pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]

QUESTION = "What is 31 + 24?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "City name"}},
            "required": ["city"],
        },
    },
}


@contextmanager
def listening(requests: list[str]) -> Iterator[httpx2.Client]:
    """Connections for a client, which note the ids of the requests that it makes."""

    def note(response: httpx2.Response) -> None:
        requests.append(response.headers["x-request-id"])

    with httpx2.Client(timeout=120, event_hooks={"response": [note]}) as connections:
        yield connections


def expect_told(demo: DemoRun, requests: list[str], told: list[Counted]) -> None:
    known = known_of(demo, requests)
    assert [known[request].billed for request in requests] == told
    assert [known[request].engine for request in requests] == told


def test_langchain(demo: DemoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    assert demo.endpoints.api_key is not None
    requests: list[str] = []
    with listening(requests) as connections:
        model = ChatOpenAI(
            model=demo.endpoints.model,
            base_url=f"{demo.endpoints.gateway_url}/v1",
            api_key=SecretStr(demo.endpoints.api_key),
            http_client=connections,
            max_retries=0,
            temperature=0,
            stream_usage=True,
        )
        whole = model.invoke(QUESTION)
        streamed, *pieces = model.stream(QUESTION)
        for piece in pieces:
            streamed += piece
        called = model.bind_tools([WEATHER], tool_choice="required").invoke("What is the weather in Oslo?")

    assert str(whole.content).strip() == str(streamed.content).strip() == "55"
    assert called.tool_calls[0]["name"] == "get_weather"
    told = []
    for used in (whole.usage_metadata, streamed.usage_metadata, called.usage_metadata):
        assert used is not None
        cached = used.get("input_token_details", {}).get("cache_read") or 0
        told.append(Counted(used["input_tokens"], cached, used["output_tokens"]))
    expect_told(demo, requests, told)


@pytest.mark.filterwarnings("ignore:Items? :UserWarning")
@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
def test_litellm(demo: DemoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else it fetches its list of prices as it is imported.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # noqa: PLC0415 - it takes seconds, which only this test need wait for

    url, secret, requests = f"{demo.endpoints.gateway_url}/v1", demo.endpoints.api_key, list[str]()
    with (
        listening(requests) as connections,
        openai.OpenAI(base_url=url, api_key=secret, max_retries=0, http_client=connections) as client,
    ):

        def ask(content: str, **more: Any) -> Any:
            return litellm.completion(
                model=f"openai/{demo.endpoints.model}",
                messages=[{"role": "user", "content": content}],
                api_base=url,
                api_key=secret,
                client=client,
                max_retries=0,
                temperature=0,
                **more,
            )

        whole = ask(QUESTION)
        pieces = list(ask(QUESTION, stream=True, stream_options={"include_usage": True}))
        called = ask("What is the weather in Oslo?", tools=[WEATHER], tool_choice="required")

    said = [choice.delta.content or "" for piece in pieces for choice in piece.choices]
    assert whole.choices[0].message.content.strip() == "".join(said).strip() == "55"
    assert whole.choices[0].message.reasoning_content
    assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
    told = [
        Counted(used.prompt_tokens, used.prompt_tokens_details.cached_tokens or 0, used.completion_tokens)
        for used in (whole.usage, pieces[-1].usage, called.usage)
    ]
    expect_told(demo, requests, told)
