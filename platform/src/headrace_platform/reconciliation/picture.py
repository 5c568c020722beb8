"""The stages as one looks at them: the chain, a line a stage, a square a day, and every culprit by name."""

from datetime import datetime, timedelta
from itertools import pairwise

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace_platform.reconciliation.stages import Stage, Stages

STYLES = {"green": "green", "unwitnessed": "cyan", "pending": "yellow", "red": "bold red"}
# Shape tells what colour does, for whoever sees no colour.
MARKS = {"green": "■", "unwitnessed": "□", "pending": "◧", "red": "✗"}
CHAIN = ("engine", "events", "rollups", "rated", "ledger", "invoices", "Stripe")


def picture(seen: Stages) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("stage")
    table.add_column("")
    table.add_column("as of")
    table.add_column("what is compared")
    table.add_column("one side", justify="right")
    table.add_column("the other", justify="right")
    for stage in seen.stages:
        _add(table, stage, at=seen.at)
    parts: list[RenderableType] = [chain(seen), Text(), table]
    unwitnessed = sum(stage.unwitnessed_requests for stage in seen.stages)
    if unwitnessed:
        told = (
            f"{MARKS['unwitnessed']} {grouped(str(unwitnessed))} requests: no engine record to compare with"
        )
        parts += [Text(), Text(told, style=STYLES["unwitnessed"])]
    by_day = [stage for stage in seen.stages if stage.days]
    if by_day:
        parts += [Text(), *(days(stage) for stage in by_day)]
    culprits = [(stage, culprit) for stage in seen.stages for culprit in stage.culprits]
    if culprits:
        named = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("not reconciled", "why", "what was seen"):
            named.add_column(heading, overflow="fold")
        for _, culprit in culprits:
            style = STYLES.get(culprit.status, "")
            named.add_row(Text(culprit.id), Text(culprit.reason, style=style), Text(culprit.detail))
        parts += [Text(), named]
        left_off = sum(stage.culprits_count for stage in seen.stages) - len(culprits)
        if left_off:
            parts.append(Text(f"and {left_off} more: GET /v1/reconciliation names them", style="dim"))
    return Group(*parts)


def chain(seen: Stages) -> Text:
    """engine ■ events ■ rollups ■ …"""
    links = {stage.stage: stage.status for stage in seen.stages}
    drawn = Text(CHAIN[0])
    for left, right in pairwise(CHAIN):
        status = links.get(f"{left} = {right}")
        drawn.append(f" {MARKS.get(status or '', '·')} ", style=STYLES.get(status or "", "dim"))
        drawn.append(right)
    return drawn


def days(stage: Stage) -> Text:
    """Newest on the right."""
    drawn = Text(f"{stage.stage:<18}{stage.days[-1].day} ")
    for day in reversed(stage.days):
        drawn.append(MARKS.get(day.status, "?"), style=STYLES.get(day.status, ""))
    drawn.append(f" {stage.days[0].day}")
    return drawn


def _add(table: Table, stage: Stage, *, at: str) -> None:
    head = (
        stage.stage,
        Text(stage.status.replace("_", " "), style=STYLES.get(stage.status, "")),
        age(stage.as_of, at),
    )
    if not stage.sides:
        table.add_row(*head)
    for side in stage.sides:
        # A number that differs is what one looks for.
        style = "" if side.holds else STYLES["red"]
        table.add_row(
            *head,
            side.unit.removeprefix("usage: "),
            Text(grouped(side.left), style=style),
            Text(grouped(side.right), style=style),
        )
        head = ("", Text(), "")


def age(as_of: str | None, at: str) -> str:
    if as_of is None:
        return "never"
    passed = datetime.fromisoformat(at) - datetime.fromisoformat(as_of)
    if passed < timedelta(minutes=2):
        return f"{max(passed.total_seconds(), 0):.0f} s ago"
    if passed < timedelta(hours=2):
        return f"{passed.total_seconds() / 60:.0f} min ago"
    return f"{passed.total_seconds() / 3600:.0f} h ago"


def grouped(number: str) -> str:
    """In threes, as one reads it: 1 234 567."""
    return f"{int(number):,}".replace(",", "\u2009")


def show(console: Console, seen: Stages) -> None:
    console.print(picture(seen), highlight=False)
