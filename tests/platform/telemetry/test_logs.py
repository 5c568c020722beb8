"""A log line that should never have held a secret does not show it."""

import contextvars
import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from headrace_telemetry.logs import LogLevelUnknown, configure_logs, log_as_part_of, redact

KEY = "hr-" + "k" * 43


@pytest.mark.parametrize(
    "value",
    [
        f"key {KEY} refused",
        "Bearer abcdef.ghi",
        "postgresql://someone:s3cret@127.0.0.1/db",
        {"headers": [("authorization", f"Bearer {KEY}")]},
    ],
)
def test_what_looks_like_a_secret_is_redacted_however_deep(value: object) -> None:
    shown = json.dumps(redact(None, "info", {"event": "x", "value": value}))
    assert "[redacted]" in shown
    assert KEY not in shown
    assert "s3cret" not in shown
    assert "abcdef" not in shown


def test_a_traceback_shows_no_locals(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logs("test")
    try:
        prompt = "what the customer asked"
        try:
            int(prompt[:4])
        except ValueError:
            structlog.get_logger().exception("broke")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    line: dict[str, Any] = json.loads(written.getvalue())
    assert line["service"] == "test"
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert prompt not in written.getvalue()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    before = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers, logging.root.level = before


def test_what_libraries_log_comes_out_alike_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("test", libraries=True)
    logging.getLogger("some.library").warning("sent %s", f"Bearer {KEY}")
    logging.getLogger("some.library").info("nothing worth a line")
    text = capsys.readouterr().err
    (line,) = [json.loads(each) for each in text.splitlines()]
    assert (line["service"], line["logger"], line["level"]) == ("test", "some.library", "warning")
    assert KEY not in text


def test_a_task_s_lines_name_the_request_that_it_works_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("test")

    def work() -> None:
        log_as_part_of("req_1", "trace_1")
        structlog.get_logger().info("mine")
        structlog.get_logger().info("another's", request="req_2")

    contextvars.copy_context().run(work)
    structlog.get_logger().info("nobody's")
    mine, another, nobody = [json.loads(each) for each in capsys.readouterr().err.splitlines()]
    assert (mine["request"], mine["trace"]) == ("req_1", "trace_1")
    assert (another["request"], "trace" in another) == ("req_2", False)
    assert "request" not in nobody


@pytest.mark.parametrize(("level", "lines"), [("debug", 2), ("info", 1), ("warning", 0)])
def test_how_much_is_logged_is_told_by_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, level: str, lines: int
) -> None:
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", level)
    configure_logs("test")
    structlog.get_logger().debug("detail")
    structlog.get_logger().info("event")
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_level_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", "loud")
    with pytest.raises(LogLevelUnknown, match="'loud', and none of debug, info"):
        configure_logs("test")
