"""What accelerators cost by a contract's rates: those reserved whether used or not, those above by the time they ran.

A reservation holds in each hour by itself, so that a busy hour is not paid by a quiet one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from headrace_billing.charges.charge import ChargeKind
from headrace_billing.contracts.dues import Due
from headrace_billing.contracts.terms import GpuRate
from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.usage import Span

HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000
UNIT = "GPU millisecond"


@dataclass(frozen=True, slots=True)
class GpuTime:
    """Of one rate within a span, in accelerator-milliseconds."""

    reserved_ms: int
    used_ms: int
    """Of what was reserved."""
    on_demand_ms: int
    estimated_ms: int
    """Of what was used, where a pod's end was not seen."""

    @property
    def idle_ms(self) -> int:
        return self.reserved_ms - self.used_ms


def gpu_time(
    rate: GpuRate, measured_ms: Mapping[datetime, int], *, span: Span, estimated_ms: int = 0
) -> GpuTime:
    """`measured_ms` by hour; hours that are missing were not used. The span is of whole hours."""
    per_hour = rate.accelerators * HOUR_MS
    within = {hour: ms for hour, ms in measured_ms.items() if span.start <= hour < span.end}
    return GpuTime(
        reserved_ms=(span.end - span.start) // HOUR * per_hour,
        used_ms=sum(min(ms, per_hour) for ms in within.values()),
        on_demand_ms=sum(max(ms - per_hour, 0) for ms in within.values()),
        estimated_ms=estimated_ms,
    )


def reserved_nanos(rate: GpuRate, time: GpuTime) -> int:
    return time.reserved_ms // HOUR_MS * rate.reserved_nanos


def on_demand_nanos(rate: GpuRate, time: GpuTime) -> int:
    """Rounded once, half away from zero."""
    return divided_half_away(time.on_demand_ms * rate.on_demand_nanos, HOUR_MS)


def gpu_dues(rate: GpuRate, time: GpuTime, *, span: Span) -> list[Due]:
    of = f"{rate.deployment}:{rate.profile}:{span.start:%Y-%m}"
    what = f"{rate.deployment}, {rate.profile}"
    return [
        Due(
            key=f"gpu-reserved:{of}",
            kind=ChargeKind.GPU_TIME,
            label=f"Reserved GPU time: {rate.accelerators} of {what}, {seconds(time.reserved_ms)} s"
            f" (used {seconds(time.used_ms)} s, idle {seconds(time.idle_ms)} s)",
            span=span,
            quantity=time.reserved_ms,
            unit=UNIT,
            nanos=reserved_nanos(rate, time),
            unit_price=_major(rate.reserved_nanos),
            per=HOUR_MS,
        ),
        Due(
            key=f"gpu-on-demand:{of}",
            kind=ChargeKind.GPU_TIME,
            label=f"GPU time on demand: {what}, {seconds(time.on_demand_ms)} s",
            span=span,
            quantity=time.on_demand_ms,
            unit=UNIT,
            nanos=on_demand_nanos(rate, time),
            unit_price=_major(rate.on_demand_nanos),
            per=HOUR_MS,
        ),
    ]


def _major(nanos: int) -> Decimal:
    return Decimal(nanos).scaleb(-9)


def seconds(milliseconds: int) -> str:
    """Exact: 1500 → `"1.5"`."""
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")
