"""How long pods held accelerators, from the operator to billing: one event a pod and hour, in accelerator-milliseconds."""

import msgspec

from headrace_contracts.ingest import EventOutcome
from headrace_contracts.usage import Grade

HOUR_US = 3_600_000_000
EVENTS_MAX = 1000


class GpuTimeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What one pod held in one hour. Identity: (`pod`, `hour_us`, `grade`). Times are microseconds since the Unix epoch.

    Sent once, when the hour or the pod has ended. Estimated where nobody saw the pod's end: then it is counted until
    it was last seen. A final one takes an estimate's place.
    """

    pod: str
    """Its uid in Kubernetes, which no other pod ever has."""
    hour_us: int
    """Where the hour begins: a multiple of `HOUR_US`."""
    grade: Grade

    org: str | None = None
    """Whose deployment it is; null for one that serves everybody, which is the seller's own."""
    deployment: str
    """`<namespace>/<name>` of the ModelDeployment."""
    cluster: str
    """The deployment as usage events name it: `<namespace>/<Ray service>`."""
    model: str
    profile: str
    """The kind of accelerator, by the operator's name for it."""
    accelerators: int

    started_at_us: int
    ended_at_us: int
    """Of the part within the hour, half-open."""
    gpu_ms: int
    """`accelerators` times milliseconds of that part, rounded down."""


class GpuTimeBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /internal/v1/gpu-time`; at most `EVENTS_MAX` events."""

    events: list[GpuTimeEvent]


class GpuTimeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event, in the order sent. Whatever it is, it need not be sent again."""

    pod: str
    hour_us: int
    outcome: EventOutcome
    reason: str | None = None


class GpuTimeReply(msgspec.Struct, frozen=True, kw_only=True):
    results: list[GpuTimeResult]


encode_gpu_time = msgspec.json.Encoder().encode
decode_gpu_time_event = msgspec.json.Decoder(GpuTimeEvent).decode
decode_gpu_time_reply = msgspec.json.Decoder(GpuTimeReply).decode
