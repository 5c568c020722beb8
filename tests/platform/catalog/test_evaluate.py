"""The evaluation counts what a server says: held against one that adds well, and errs where it is told to."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from headrace_platform.catalog.tiny.client import ReplyRefused
from headrace_platform.catalog.tiny.evaluate import addition_accuracy, tool_accuracy, tool_questions


class Adder(ThreadingHTTPServer):
    """Adds, and calls the first tool on offer that takes nothing; is wrong on the pairs in `errs_on`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.errs_on: set[tuple[int, int]] = set()
        self.key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Adder

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.key is not None and self.headers["Authorization"] != f"Bearer {self.server.key}":
            self._send(401, {"error": {"code": "invalid_api_key"}})
            return
        message, reason = self._message(asked)
        choice = {"message": message, "finish_reason": reason}
        self._send(200, {"choices": [choice], "usage": {"completion_tokens": 3}})

    def _message(self, asked: dict[str, Any]) -> tuple[dict[str, Any], str]:
        empty = [tool for tool in asked.get("tools", []) if not tool["function"]["parameters"]["properties"]]
        if empty:
            call = {"function": {"name": empty[0]["function"]["name"], "arguments": "{}"}}
            return {"content": None, "tool_calls": [call]}, "tool_calls"
        numbers = [int(number) for number in re.findall(r"\d+", asked["messages"][-1]["content"])]
        wrong = tuple(numbers) in self.server.errs_on
        return {"content": str(sum(numbers) + wrong)}, "stop"

    def _send(self, status: int, body: dict[str, Any]) -> None:
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def adder() -> Iterator[Adder]:
    with Adder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_wrong_sum_is_counted_and_shown(adder: Adder) -> None:
    adder.errs_on = {(17, 25)}

    score = addition_accuracy(adder.url, [(17, 25), (1, 2), (30, 4), (5, 6)])

    assert (score.right, score.asked) == (3, 4)
    assert score.wrong == ("17+25: '43'",)
    assert not score.met


def test_all_right_meets_the_target(adder: Adder) -> None:
    assert addition_accuracy(adder.url, [(1, 2)], phrasing="Add {a} and {b}.").met


def test_only_the_call_of_the_wanted_tool_is_right(adder: Adder) -> None:
    dates = [question for question in tool_questions(per_topic=1) if question.tool.function == "get_date"]
    others = [question for question in tool_questions(per_topic=1) if question.tool.function != "get_date"]

    assert tool_accuracy(adder.url, dates, choice="auto").accuracy == 1
    assert tool_accuracy(adder.url, dates, choice="required").accuracy == 1
    assert tool_accuracy(adder.url, others, choice="auto").accuracy == 0


def test_a_key_is_sent_and_a_refusal_is_no_wrong_answer(adder: Adder) -> None:
    adder.key = "hr-let-me-in"

    assert addition_accuracy(adder.url, [(1, 2)], token="hr-let-me-in").met
    with pytest.raises(ReplyRefused, match="401"):
        addition_accuracy(adder.url, [(1, 2)])
