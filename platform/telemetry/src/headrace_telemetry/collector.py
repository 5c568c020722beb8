"""Spans on their way to an OpenTelemetry collector: by its SDK, in a thread of that, over HTTP.

The SDK samples, batches and sends, told by its own variables (`OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`,
`OTEL_EXPORTER_OTLP_*`). It does not make the spans: it would have them begun when nothing is known of them yet.
"""

import threading
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from headrace_telemetry.traces import Parent, Side, Span

WAITING_MAX = 2048
"""Spans of about 2 KiB; the SDK's own queue takes as many, and would drop older ones without a count."""

CLOSE_SECONDS = 5.0
"""A collector that is gone must not hold up the end of a process."""

SCOPE = InstrumentationScope("headrace")
KINDS = {Side.SERVER: SpanKind.SERVER, Side.CLIENT: SpanKind.CLIENT}
ROOT = Context()


class CollectorSpans:
    """Implements `traces.Spans`."""

    def __init__(self, service: str, instance: str) -> None:
        # What the environment says of the service wins.
        self._resource = Resource.create({"service.name": service, "service.instance.id": instance})
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        self._exporter = Counting(OTLPSpanExporter())
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=WAITING_MAX)
        self._taken = 0
        self._dropped = 0

    @property
    def lost(self) -> int:
        return self._dropped + self._exporter.failed

    def samples(self, trace: str, parent: Parent | None, name: str) -> bool:
        context = ROOT
        if parent is not None:
            span = NonRecordingSpan(_context(parent.trace, parent.span, sampled=parent.sampled, remote=True))
            context = set_span_in_context(span, ROOT)
        # The SDK looks at the lower 64 bits. A UUID's first two of these are always the same, the next are random.
        result = self._sampler.should_sample(context, int(trace, 16) << 2, name)
        return result.decision is Decision.RECORD_AND_SAMPLE

    def end(self, span: Span) -> None:
        if self._taken - self._exporter.seen >= WAITING_MAX:
            self._dropped += 1
            return
        self._taken += 1
        parent = None if span.parent is None else _context(span.trace, span.parent)
        status = Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR)
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.trace, span.id),
                parent=parent,
                resource=self._resource,
                attributes=span.attributes,
                kind=KINDS[span.side],
                status=status,
                start_time=span.began_ns,
                end_time=span.ended_ns,
                instrumentation_scope=SCOPE,
            )
        )

    def close(self) -> None:
        # The SDK's own shutdown waits for as long as the exporter tries again.
        closing = threading.Thread(target=self._processor.shutdown, name="spans-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class Counting(SpanExporter):
    """Knows how many spans are off the queue, and how many of them the collector did not get."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.seen = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self.seen += len(spans)
            if result is not SpanExportResult.SUCCESS:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context(trace: str, span: str, *, sampled: bool = True, remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace, 16), int(span, 16), is_remote=remote, trace_flags=flags)
