"""The customer's side of the demo: the unmodified `openai` client against the gateway."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

# Thinking plus an answer of the tiny model fit easily; a customer bounds what it pays.
ANSWER_TOKENS_MAX = 120
STORY = "Tell me a long story."


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens that the client was told, or could count, for one request."""

    prompt: int
    output: int

    def __add__(self, other: "Used") -> "Used":
        return Used(self.prompt + other.prompt, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    used: Used
    request_id: str


class Customer:
    def __init__(self, gateway_url: str, api_key: str, model: str) -> None:
        # No retries: each call here is one request, and the report counts requests.
        self.client = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=api_key, max_retries=0, timeout=120)
        self.model = model

    def models(self) -> list[str]:
        return [model.id for model in self.client.models.list()]

    def ask(self, question: str, *, task: str | None = None) -> Answer:
        """A plain chat completion at temperature 0."""
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=ANSWER_TOKENS_MAX,
            extra_headers={} if task is None else {"X-Task-Id": task},
        )
        reply = raw.parse()
        assert reply.usage is not None, "the gateway answered without usage"
        return Answer(
            text=(reply.choices[0].message.content or "").strip(),
            used=Used(reply.usage.prompt_tokens, reply.usage.completion_tokens),
            request_id=raw.headers["x-request-id"],
        )

    def stream(self, question: str) -> Answer:
        """A streamed chat completion that asks for usage."""
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=ANSWER_TOKENS_MAX,
            stream=True,
            stream_options={"include_usage": True},
        )
        text, used = "", None
        for chunk in raw.parse():
            if chunk.usage is not None:
                used = Used(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        assert used is not None, "the stream ended without usage"
        return Answer(text=text.strip(), used=used, request_id=raw.headers["x-request-id"])

    def break_off(self, *, after_chunks: int, then: Callable[[], None] | None = None) -> str:
        """Starts a long stream, reads `after_chunks` chunks, runs `then` (or hangs up); the request's id."""
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=[{"role": "user", "content": STORY}],
            max_tokens=1500,
            stream=True,
            # Keeps the tiny model from ending its story before we break it off.
            extra_body={"ignore_eos": True},
        )
        stream = raw.parse()
        for _, _chunk in zip(range(after_chunks), stream, strict=False):
            pass
        if then is None:
            stream.close()
        else:
            then()
            try:
                for _chunk in stream:
                    pass
            except (openai.APIError, httpx2.HTTPError):
                pass  # the connection went with the gateway, which is the point
        return str(raw.headers["x-request-id"])

    def ask_at_once(self, questions: list[str]) -> list[Answer]:
        with ThreadPoolExecutor(len(questions)) as pool:
            return list(pool.map(self.ask, questions))

    def refused(self, question: str) -> tuple[int, dict[str, Any]]:
        """Status and error of a request that must not be admitted."""
        try:
            self.ask(question)
        except openai.APIStatusError as refusal:
            error: Any = refusal.body
            return refusal.status_code, dict(error)
        return 200, {}
