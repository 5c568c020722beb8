"""Traces: W3C's headers, and spans that are made when what they tell of is over.

What must stay true: without a collector's address nothing of this is loaded and nothing costs anything; a collector
that is slow or gone costs spans, which are counted, and never a request. Spans hold no prompt, no answer and no key.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 1

AttributeValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Parent:
    """Whose work a request is part of, as its `traceparent` says."""

    trace: str
    span: str
    sampled: bool


def read_traceparent(value: str) -> Parent | None:
    """Null where it is none, which is then as if it had not been sent."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace, span, flags, further = found.groups()
    if version == "ff" or (version == "00" and further) or not int(trace, 16) or not int(span, 16):
        return None
    return Parent(trace, span, bool(int(flags, 16) & _SAMPLED))


def write_traceparent(trace: str, span: str, *, sampled: bool) -> str:
    return f"00-{trace}-{span}-{int(sampled):02x}"


def new_span_id() -> str:
    """Never all zeros, which would be none."""
    return (os.urandom(7) + b"\x01").hex()


class Side(Enum):
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    name: str
    side: Side
    trace: str
    id: str
    parent: str | None
    began_ns: int
    """Since the Unix epoch, as all times of spans."""
    ended_ns: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    error: str | None = None
    """A stable code; null where all went well."""


class Spans(Protocol):
    """Where spans go."""

    @property
    def lost(self) -> int:
        """Spans that the collector did not get."""

    def samples(self, trace: str, parent: Parent | None, name: str) -> bool:
        """Whether the spans of this trace are wanted."""

    def end(self, span: Span) -> None: ...

    def close(self) -> None:
        """Sends what waits, within a bound."""


def spans_to_collector(service: str, instance: str) -> Spans | None:
    """As OpenTelemetry's own variables say; null where they name no collector, or say that nothing is wanted."""
    environment = os.environ
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").lower() not in {"", "otlp"}:
        return None
    addresses = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not any(environment.get(name) for name in addresses):
        return None
    from headrace_telemetry.collector import CollectorSpans  # noqa: PLC0415 - half a second and 20 MB, when wanted

    return CollectorSpans(service, instance)
