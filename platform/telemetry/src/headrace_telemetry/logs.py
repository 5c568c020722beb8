"""Structured logs: one JSON object a line on standard error, without prompts, keys or secrets."""

import logging
import os
import re
import sys
from contextvars import ContextVar

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

# An API key, a bearer header or the password inside a URL. A log line that holds one is our bug, so this is
# the second fence: the first is that nobody passes one in.
SECRET = re.compile(r"hr-[A-Za-z0-9_-]{16,}|(?i:bearer)\s+\S+|(?<=://)[^/\s:@]*:[^@\s]+(?=@)")

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# Not structlog's own context, which is a dictionary a request: this is one assignment.
_part_of: ContextVar[tuple[str, str] | None] = ContextVar("part_of", default=None)


def log_as_part_of(request: str, trace: str) -> None:
    """From now on every line that the running task logs names this request and its trace."""
    _part_of.set((request, trace))


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


def _name_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    part_of = _part_of.get()
    if part_of is None:
        return event
    request, trace = part_of
    if event.setdefault("request", request) == request:
        event.setdefault("trace", trace)
    return event


class LogLevelUnknown(Exception):
    """`HEADRACE_LOG_LEVEL` is none of `debug`, `info`, `warning` and `error`."""


def _level() -> int:
    name = os.environ.get("HEADRACE_LOG_LEVEL", "info")
    if name not in LEVELS:
        raise LogLevelUnknown(f"HEADRACE_LOG_LEVEL is {name!r}, and none of {', '.join(LEVELS)}")
    return LEVELS[name]


def configure_logs(service: str, *, libraries: bool = False) -> None:
    """Sets logging up for this process; call once, first thing in a composition root.

    With `libraries`, what these log by Python's own logging comes out in the same form, from warnings on.
    """
    level = _level()

    def name_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"service": service, **event}

    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        _name_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Without the values of locals, which may be a prompt or a token.
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        redact,
    ]
    structlog.configure(
        processors=[*processors, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    if not libraries:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *processors,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
