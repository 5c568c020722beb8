"""A log line that should never have held a secret does not show it."""

import json
from io import StringIO
from typing import Any

import pytest
import structlog

from headrace_telemetry.logs import configure_logs, redact

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
