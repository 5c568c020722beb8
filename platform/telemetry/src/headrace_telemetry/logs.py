"""Structured logs: one JSON object a line on standard error, without prompts, keys or secrets."""

import logging
import re
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

# An API key, a bearer header or the password inside a URL. A log line that holds one is our bug, so this is
# the second fence: the first is that nobody passes one in.
SECRET = re.compile(r"hr-[A-Za-z0-9_-]{16,}|(?i:bearer)\s+\S+|(?<=://)[^/\s:@]*:[^@\s]+(?=@)")


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replaces what looks like a secret in any text, however deep, by `[redacted]`."""
    return {name: _redacted(value) for name, value in event.items()}


def _redacted(value: object) -> object:
    match value:
        case str():
            return SECRET.sub("[redacted]", value)
        case dict():
            return {key: _redacted(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_redacted(inner) for inner in value]
        case _:
            return value


def configure_logs(service: str, *, level: int = logging.INFO) -> None:
    """Sets structlog up for this process; call once, first thing in a composition root."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the values of locals, which may be a prompt or a token.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            redact,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
