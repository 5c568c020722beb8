"""Nothing that a client sends in confidence, and no secret of ours, is in any line that the gateway logs."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.gateway.http.stack import chat, listens, served_at, write_table
from tests.gateway.http.test_process import Launcher, launcher
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

__all__ = ["launcher"]

PROMPT = "prompt-that-nobody-may-read"
ANSWER = "answer-that-nobody-may-read"
USER = "jane.doe@example.org"
STRANGER = "hr-" + "s" * 43
ZAI_TOKEN = "id-of-a-key.secret-part-of-a-zai-key"
SIGNING_SECRET = "5b" * 32
STRANGERS: list[dict[str, str]] = [
    {},
    {"authorization": f"Bearer {STRANGER}"},
    {"authorization": f"Bearer {ZAI_TOKEN}"},
    {"x-api-key": STRANGER, "authorization": ""},
]

SAID = [{"role": "user", "content": PROMPT}]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": SAID, "user": USER}),
    ("/v1/completions", {"prompt": PROMPT, "user": USER}),
    ("/v1/responses", {"input": PROMPT, "user": USER}),
    ("/v1/embeddings", {"input": PROMPT, "user": USER}),
    ("/v1/messages", {"messages": SAID, "max_tokens": 50, "metadata": {"user_id": USER}}),
    ("/v1/messages/count_tokens", {"messages": SAID}),
    ("/api/paas/v4/chat/completions", {"messages": SAID, "user_id": USER}),
    ("/api/paas/v4/tokenizer", {"messages": SAID}),
]
MISBEHAVIOURS = [
    Behaviour(text=ANSWER),
    Behaviour(text=ANSWER, status=400, error=PROMPT),
    Behaviour(text=ANSWER, status=500, error=PROMPT),
    Behaviour(text=ANSWER, reset=True),
    Behaviour(text=ANSWER, break_after=2),
    Behaviour(text=ANSWER, end_after=2),
    Behaviour(text=ANSWER, hang_after=2),
    Behaviour(text=ANSWER, error_event_after=2, error=PROMPT),
    Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n" + ANSWER.encode().ljust(40)),
    Behaviour(raw=b"not http " + PROMPT.encode() + b"\r\n\r\n"),
]


@dataclass
class Logging:
    http: httpx.AsyncClient
    launcher: Launcher
    lines: Path

    def logged(self) -> str:
        return self.lines.read_text()


@pytest.fixture
def idle_timeout_seconds() -> float:
    """Longer than the engine is ever kept waiting."""
    return 20


@pytest.fixture
async def logging(launcher: Launcher, tmp_path: Path, idle_timeout_seconds: float) -> AsyncIterator[Logging]:
    """A gateway's process that logs all that it can, with a model name for each misbehaviour."""
    served = [
        served_at(launcher.engine.url, id=f"dep-{n}", aliases=[f"glm-{n}"]) for n in range(len(MISBEHAVIOURS))
    ]
    write_table(tmp_path / "deployments.json", *served)
    settings = launcher.environment | {
        "HEADRACE_LOG_LEVEL": "debug",
        "HEADRACE_GATEWAY_IDLE_TIMEOUT_SECONDS": str(idle_timeout_seconds),
        "HEADRACE_GATEWAY_GRACE_SECONDS": "0",
        "HEADRACE_GATEWAY_TOKEN_SIGNING_SECRET": SIGNING_SECRET,
    }
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace_gateway"),
            env={**os.environ, **settings},
            stderr=log,
            stdout=log,
        )
        try:
            port = int(settings["HEADRACE_GATEWAY_PORT"])
            await listens(port)
            headers = {"authorization": f"Bearer {launcher.account.secret}"}
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as http:
                yield Logging(http, launcher, tmp_path / "log")
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


@pytest.mark.parametrize("idle_timeout_seconds", [0.3])
async def test_neither_prompts_nor_answers_nor_keys_are_logged_however_a_request_ends(
    logging: Logging,
) -> None:
    endings = set()
    for n, misbehaviour in enumerate(MISBEHAVIOURS):
        logging.launcher.engine.default = misbehaviour
        for path, what in CALLS:
            for stream in ({}, {"stream": True}):
                body = {"model": f"glm-{n}", **what, **stream}
                for headers in STRANGERS if n == 0 else [{}]:
                    reply = await logging.http.post(path, json=body, headers=headers)
                    endings.add(reply.status_code)
            await logging.http.post(path, content=json.dumps(body)[:-5])
    assert {200, 400, 401, 502} <= endings

    text = logging.logged()
    told = [json.loads(line) for line in text.splitlines()]
    assert {"reply_broken", "stream_failed", "upstream_failed"} <= {line["event"] for line in told}
    assert {line["service"] for line in told} == {"gateway"}
    secrets = (PROMPT, ANSWER, USER, STRANGER, ZAI_TOKEN, SIGNING_SECRET, logging.launcher.account.secret)
    for secret in (*secrets, logging.launcher.environment["HEADRACE_GATEWAY_INGEST_TOKEN"]):
        assert secret not in text


async def test_a_line_logged_for_a_request_names_it_and_its_trace(logging: Logging) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    logging.launcher.engine.default = Behaviour(break_after=2)
    for headers in ({}, {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}):
        await logging.http.post("/v1/chat/completions", json=chat(stream=True), headers=headers)
    await eventually(lambda: len(logging.launcher.account.events()) == 2)
    first, second = sorted(logging.launcher.account.events(), key=lambda event: event.received_at_us)
    lines = [json.loads(line) for line in logging.logged().splitlines()]
    broken = {line["request"]: line["trace"] for line in lines if line["event"] == "reply_broken"}
    assert broken == {first.id: first.trace_id, second.id: trace}
