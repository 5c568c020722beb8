"""What arrives: an event of GPU time with everything known before a database is asked, or why it is none. Pure."""

from dataclasses import dataclass

import msgspec

from headrace_billing.ingest.arrival import plausible
from headrace_billing.ingest.fingerprint import fingerprint
from headrace_contracts.gpu_time import HOUR_US, GpuTimeEvent, decode_gpu_time_event
from headrace_contracts.usage import Grade

NAME_CHARACTERS_MAX = 400
ACCELERATORS_MAX = 10_000

Identity = tuple[str, int, Grade]


@dataclass(frozen=True, slots=True)
class Arrival:
    raw: bytes
    event: GpuTimeEvent | None
    refusal: str | None
    """Why there is no event in it."""
    payload_hash: bytes = b""

    @property
    def identity(self) -> Identity:
        assert self.event is not None, self.refusal
        return self.event.pod, self.event.hour_us, self.event.grade


def read(raw: bytes) -> Arrival:
    """Never raises: whatever is wrong is the arrival's `refusal`."""
    try:
        event = decode_gpu_time_event(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Arrival(raw, None, f"undecodable: {error}"[:500])
    refusal = _refusal(event)
    if refusal is not None:
        return Arrival(raw, None, refusal)
    return Arrival(raw, event, None, fingerprint(event))


def _refusal(event: GpuTimeEvent) -> str | None:
    names = (event.pod, event.deployment, event.cluster, event.model, event.profile, event.org or "none")
    if not all(name.isprintable() and 0 < len(name) <= NAME_CHARACTERS_MAX for name in names):
        return "name_unusable"
    if event.hour_us % HOUR_US or not plausible(event.hour_us):
        return "hour_is_none"
    if not event.hour_us <= event.started_at_us < event.ended_at_us <= event.hour_us + HOUR_US:
        return "time_outside_of_the_hour"
    if not 1 <= event.accelerators <= ACCELERATORS_MAX:
        return "accelerators_out_of_range"
    if event.gpu_ms != event.accelerators * ((event.ended_at_us - event.started_at_us) // 1000):
        return "time_does_not_add_up"
    return None
