"""What whoever waits for the stack gets to see."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text


class Phase(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RUNNING = "as it was"  # ready before this start, and left alone
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    phase: Phase
    seconds: float = 0.0
    note: str = ""


class Progress(Protocol):
    def show(self, steps: Mapping[str, Step]) -> None:
        """Called several times a second with the state of all programs, in the order of their start."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Silent:
    """For a caller that has its own way to tell."""

    def show(self, steps: Mapping[str, Step]) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Lines:
    """For a log or a pipe: a line whenever a program gets further."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, Phase] = {}

    def show(self, steps: Mapping[str, Step]) -> None:
        for name, step in steps.items():
            if self._shown.get(name) == step.phase or step.phase is Phase.WAITING:
                continue
            self._shown[name] = step.phase
            after = f" after {step.seconds:.1f} s" if step.phase in (Phase.READY, Phase.FAILED) else ""
            self._console.print(f"{name:<19}{step.phase}{after}", highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class LiveTable:
    """For a terminal: a table that stands still, with the seconds running."""

    STYLES: Mapping[Phase, str] = {
        Phase.WAITING: "dim",
        Phase.STARTING: "yellow",
        Phase.READY: "green",
        Phase.RUNNING: "green",
        Phase.FAILED: "bold red",
    }

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8)

    def show(self, steps: Mapping[str, Step]) -> None:
        table = Table.grid(padding=(0, 3))
        for name, step in steps.items():
            seconds = f"{step.seconds:5.1f} s" if step.seconds else ""
            phase = Text(step.phase, style=self.STYLES[step.phase])
            table.add_row(Text(name), phase, Text(seconds), Text(step.note, style="dim"))
        self._live.update(table)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def progress_for(console: Console) -> Progress:
    return LiveTable(console) if console.is_terminal else Lines(console)
