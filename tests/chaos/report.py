"""What a run shows for itself: figures, recovery times, and for each failing request all that is known of it."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.audit import Verdict, Wrong
from tests.chaos.facts import Befallen, Facts, Reply
from tests.chaos.schedule import GATEWAYS, Plan

TIMELINES_MAX = 20
LOG_LINES_MAX = 40
SUMMARY = ("times", "median", "most")
LOG_LINE_CHARACTERS_MAX = 400


@dataclass(frozen=True, slots=True)
class Report:
    plan: Plan
    facts: Facts
    verdict: Verdict
    disk: str
    logs: Mapping[str, Path]

    def document(self) -> dict[str, Any]:
        replies = self.facts.replies
        return {
            "seed": self.plan.seed,
            "seconds": self.plan.seconds,
            **{wrong.value: self.verdict.count(wrong) for wrong in Wrong},
            "requests": {
                "visits": len(self.plan.visits),
                "sent": len(replies),
                "admitted": len({event.id for event in self.facts.events}),
                "engine_attempts": len(self.facts.served),
                "answered": dict(Counter(str(reply.status) for reply in replies)),
                "refused": dict(Counter(reply.code for reply in replies if reply.code)),
                "ended": dict(Counter(reply.how for reply in replies)),
                "events": dict(Counter(f"{e.grade.name.lower()} {e.ending}" for e in self.facts.events)),
            },
            "faults": dict(Counter(befallen.kind.value for befallen in self.facts.befallen)),
            "recovery_seconds": recovery_seconds(self.facts.befallen, replies),
            "named_differences_tokens": dict(self.verdict.differences),
            "reconciliation": self.facts.reconciliation,
            "disk_full_is": self.disk,
            "findings": [
                {"wrong": found.wrong, "subject": found.subject, "detail": found.detail}
                for found in self.verdict.findings
            ],
        }

    def markdown(self) -> str:
        document = self.document()
        lines = [
            f"# Conservation run, seed {self.plan.seed}, {self.plan.seconds:.0f} s",
            "",
            "| lost | doubled | overspent | leaked |",
            "|---|---|---|---|",
            "| " + " | ".join(str(document[wrong.value]) for wrong in Wrong) + " |",
            "",
            f"Disk full is {self.disk}. Reconciliation says {self.facts.reconciliation}.",
            "",
        ]
        for title in ("requests", "faults", "named_differences_tokens"):
            lines += [f"## {title.replace('_', ' ').capitalize()}", "", "| what | how many |", "|---|---|"]
            lines += [f"| {name} | {_short(value)} |" for name, value in sorted(document[title].items())]
            lines.append("")
        lines += ["## Seconds until the next request is admitted", ""]
        lines += [
            "| fault | times | median | most | alone, times | median | most |",
            "|---|---|---|---|---|---|---|",
        ]
        for kind, seconds in sorted(document["recovery_seconds"].items()):
            cells = [str(seconds.get(f"{of}{name}", "")) for of in ("", "alone_") for name in SUMMARY]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        lines += ["", *self._findings()]
        return "\n".join(lines).rstrip() + "\n"

    def _findings(self) -> Iterator[str]:
        if self.verdict.clean:
            return
        yield "## Findings"
        yield ""
        for found in self.verdict.findings:
            yield f"- **{found.wrong}** `{found.subject}`: {found.detail}"
        yield ""
        told: list[str] = []
        for found in self.verdict.findings:
            if found.subject not in told and len(told) < TIMELINES_MAX:
                told.append(found.subject)
        for subject in told:
            timeline = list(self.timeline(subject)) or list(self.batches(subject))
            if timeline:
                yield from (f"### `{subject}`", "", "```", *timeline, "```", "")

    def timeline(self, request: str) -> Iterator[str]:
        """All that happened to a request, in order, with the faults that were under way."""
        moments: list[tuple[int, str]] = []
        visits = set()
        for reply in self.facts.replies:
            if reply.request == request:
                visits.add(reply.visit)
                where = GATEWAYS[reply.gateway]
                moments.append((reply.sent_at_us, f"client of visit {reply.visit} asks {where}"))
                told = f"client: {reply.status} {reply.code or ''} {reply.frames} frames, {reply.how}"
                moments.append((reply.answered_at_us or reply.sent_at_us, told))
        for served in self.facts.served:
            if served.request == request:
                visits.add(served.visit)
                moments.append((served.began_at_us, f"engine takes {served.attempt}"))
                told = f"engine: {served.ending}, {served.prompt} + {served.output}"
                moments.append((served.ended_at_us or served.began_at_us, told))
        for event in self.facts.events:
            if event.id == request:
                moments.append((event.received_at_us, "admitted"))
                told = f"{event.grade.name.lower()} event: {event.ending}, {event.input} + {event.output}"
                moments.append((event.finished_at_us, told))
        if not moments:
            return
        first, last = min(moments)[0] - 15_000_000, max(moments)[0] + 15_000_000
        for befallen in self.facts.befallen:
            if befallen.began_at_us < last and befallen.lifted_at_us > first:
                what = f"{befallen.kind.value} ({befallen.target})"
                moments += [
                    (befallen.began_at_us, f"FAULT {what}"),
                    (befallen.lifted_at_us, f"LIFTED {what}"),
                ]
        yield from (f"{_clock(at)}  {what}" for at, what in sorted(moments))
        for visit in self.plan.visits:
            if visit.number in visits:
                yield str(visit)
        yield from _log_lines(request, self.logs)

    def batches(self, wallet: str) -> Iterator[str]:
        """What was ingested with each overdraft of a wallet, and which grades of those requests there were before."""
        for overdraft in self.facts.overdrafts:
            if overdraft.wallet != wallet:
                continue
            yield f"{_clock(overdraft.posted_at_us)}  batch {overdraft.batch}: short of {overdraft.nanos} nano-units"
            ids = {event.id for event in self.facts.events if event.batch == overdraft.batch}
            for event in sorted(self.facts.events, key=lambda event: event.stored_at_us):
                if event.id in ids and event.wallet == wallet:
                    yield (
                        f"{_clock(event.stored_at_us)}  batch {event.batch}: {event.id} {event.grade.name.lower()} "
                        f"{event.ending} {event.cost_nanos} nano-units, {_clock(event.received_at_us)} to "
                        f"{_clock(event.finished_at_us)}"
                    )


def recovery_seconds(befallen: Sequence[Befallen], replies: Sequence[Reply]) -> dict[str, dict[str, float]]:
    """By kind of fault: from its lifting to the first admitted request that was sent after it, there where it was.

    Those that met no other fault are told apart: they say what the kind itself costs.
    """
    recovered = {
        fault.number: at_us for fault in befallen if (at_us := _recovered_at_us(fault, replies)) is not None
    }
    every: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    for fault in befallen:
        if fault.number not in recovered:
            continue
        seconds = (recovered[fault.number] - fault.lifted_at_us) / 1_000_000
        every.setdefault(fault.kind.value, []).append(seconds)
        others = [other for other in befallen if other.number != fault.number]
        if not any(
            other.began_at_us < recovered[fault.number]
            and fault.began_at_us < recovered.get(other.number, other.lifted_at_us)
            for other in others
        ):
            alone.setdefault(fault.kind.value, []).append(seconds)
    return {
        kind: _summary("", seconds) | _summary("alone_", alone.get(kind, ()))
        for kind, seconds in every.items()
    }


def _recovered_at_us(fault: Befallen, replies: Sequence[Reply]) -> int | None:
    return min(
        (
            reply.answered_at_us
            for reply in replies
            if reply.admitted
            and reply.answered_at_us is not None
            and reply.sent_at_us >= fault.lifted_at_us
            and (fault.target not in GATEWAYS or GATEWAYS[reply.gateway] == fault.target)
        ),
        default=None,
    )


def _summary(prefix: str, seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {
        f"{prefix}times": len(seconds),
        f"{prefix}median": round(statistics.median(seconds), 2),
        f"{prefix}most": round(max(seconds), 2),
    }


def _log_lines(request: str, logs: Mapping[str, Path]) -> Iterator[str]:
    found = 0
    for name, path in logs.items():
        with path.open(errors="replace") as log:
            for line in log:
                if request in line and found < LOG_LINES_MAX:
                    found += 1
                    yield f"{name}: {line.rstrip()[:LOG_LINE_CHARACTERS_MAX]}"


def _clock(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%H:%M:%S.%f")


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {count}" for name, count in sorted(value.items()))
    return str(value)
