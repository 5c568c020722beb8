"""Intervals in which pods hold accelerators, and the events that follow from them. Pure.

An interval begins when a node takes the pod, for from then on nobody else has the accelerators, and ends when its
last container ends. What nobody saw is not guessed: a pod that is gone without a word ends where it was last seen,
and its last event says so. When in doubt it is counted short.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import Struct

from headrace_contracts.gpu_time import HOUR_US, GpuTimeEvent
from headrace_contracts.usage import Grade
from headrace_platform.control.labels import Manifest
from headrace_platform.control.workers import accelerators, has_ended, is_placed

ESTIMATE_REST_US = 5 * 60_000_000
"""How long an estimate waits for the word that would make it needless: a watch may lag behind a list."""


class Held(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pod's accelerators. Times are microseconds since the Unix epoch."""

    pod: str
    org: str | None = None
    deployment: str
    cluster: str
    model: str
    profile: str
    accelerators: int
    started_at_us: int
    seen_at_us: int
    """When it was last seen to be there."""
    ended_at_us: int | None = None
    is_estimated: bool = False
    """Nobody saw its end."""
    sent_until_us: int = 0
    """The hour's end up to which billing has it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What is told of a pod beside its times."""

    org: str | None
    deployment: str
    cluster: str
    model: str
    profile: str
    resource_names: frozenset[str]
    """Of accelerators, whatever a pod has asked for when it was made."""


def microseconds(moment: datetime) -> int:
    """Exact; a float of this size would not be."""
    assert moment.tzinfo is not None, "a moment without a zone is none"
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def observed(
    before: Mapping[str, Held], pods: Iterable[tuple[Manifest, Holder]], now_us: int
) -> dict[str, Held]:
    """What is known after a look at all pods that there are."""
    after = dict(before)
    present = set()
    for pod, holder in pods:
        held = _of_pod(pod, holder, now_us)
        if held is None:
            continue
        present.add(held.pod)
        known = before.get(held.pod)
        after[held.pod] = held if known is None else _seen_again(known, held)
    for uid, known in before.items():
        if uid not in present and known.ended_at_us is None:
            after[uid] = msgspec.structs.replace(known, ended_at_us=known.seen_at_us, is_estimated=True)
    return after


def seen_ending(before: Mapping[str, Held], pod: Manifest) -> dict[str, Held]:
    """What is known after the last word on a pod: its deletion, with the status that it had."""
    known = before.get(pod["metadata"]["uid"])
    ended_at_us = _ended_at_us(pod)
    if known is None or ended_at_us is None or (known.ended_at_us is not None and not known.is_estimated):
        return dict(before)
    ended = msgspec.structs.replace(
        known, ended_at_us=max(ended_at_us, known.started_at_us), is_estimated=False
    )
    return {**before, known.pod: ended}


def due(held: Held, now_us: int) -> Iterator[GpuTimeEvent]:
    """Events that can be sent now and weren't: of hours that are over, and of the last one when the pod has ended."""
    is_settled = held.ended_at_us is not None and (
        not held.is_estimated or now_us - held.ended_at_us >= ESTIMATE_REST_US
    )
    end_us = held.ended_at_us if held.ended_at_us is not None else held.seen_at_us
    hour_us = max(held.started_at_us, held.sent_until_us) // HOUR_US * HOUR_US
    while hour_us < end_us:
        is_whole = hour_us + HOUR_US <= end_us
        if not is_whole and not is_settled:
            return
        start_us, stop_us = max(held.started_at_us, hour_us), min(end_us, hour_us + HOUR_US)
        is_guess = held.is_estimated and not is_whole
        yield GpuTimeEvent(
            pod=held.pod,
            hour_us=hour_us,
            grade=Grade.ESTIMATED if is_guess else Grade.FINAL,
            org=held.org,
            deployment=held.deployment,
            cluster=held.cluster,
            model=held.model,
            profile=held.profile,
            accelerators=held.accelerators,
            started_at_us=start_us,
            ended_at_us=stop_us,
            gpu_ms=held.accelerators * ((stop_us - start_us) // 1000),
        )
        hour_us += HOUR_US


def sent(held: Held, events: Iterable[GpuTimeEvent]) -> Held:
    """With these events known to billing."""
    until_us = max((event.hour_us + HOUR_US for event in events), default=held.sent_until_us)
    return msgspec.structs.replace(held, sent_until_us=max(until_us, held.sent_until_us))


def is_done(held: Held) -> bool:
    """Nothing of it is left to be sent."""
    return held.ended_at_us is not None and held.sent_until_us >= held.ended_at_us


def _seen_again(known: Held, now: Held) -> Held:
    """An end that nobody saw is mended by the pod's being there, and what billing has of it is sent anew."""
    if known.ended_at_us is not None and not known.is_estimated:
        return known
    sent_until_us = known.sent_until_us
    if known.ended_at_us is not None:
        sent_until_us = min(sent_until_us, known.ended_at_us // HOUR_US * HOUR_US)
    return msgspec.structs.replace(
        known,
        seen_at_us=max(known.seen_at_us, now.seen_at_us),
        ended_at_us=now.ended_at_us,
        is_estimated=False,
        sent_until_us=sent_until_us,
    )


def _of_pod(pod: Manifest, holder: Holder, now_us: int) -> Held | None:
    """None for a pod that holds nothing (yet)."""
    count, ended_at_us = accelerators(pod, holder.resource_names), _ended_at_us(pod)
    if not count or not is_placed(pod) or (has_ended(pod) and ended_at_us is None):
        return None
    started_at_us = _parsed(pod["status"]["startTime"])
    return Held(
        pod=pod["metadata"]["uid"],
        org=holder.org,
        deployment=holder.deployment,
        cluster=holder.cluster,
        model=holder.model,
        profile=holder.profile,
        accelerators=count,
        started_at_us=started_at_us,
        seen_at_us=max(now_us, started_at_us),
        ended_at_us=None if ended_at_us is None else max(ended_at_us, started_at_us),
    )


def _ended_at_us(pod: Manifest) -> int | None:
    """When the last container ended; None while one runs, or when nobody has said."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    ends = [status.get("state", {}).get("terminated", {}).get("finishedAt") for status in statuses]
    if not has_ended(pod) or not ends or not all(ends):
        return None
    return max(_parsed(end) for end in ends)


def _parsed(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))
