"""The Dockerfile as its stages: enough of its grammar to hold it to rules, since no engine runs here."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"


@dataclass
class Stage:
    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and the rest of its line, in their order."""

    def of(self, instruction: str) -> list[str]:
        return [rest for found, rest in self.steps if found == instruction]


def stages() -> dict[str, Stage]:
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text())
    found: dict[str, Stage] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(name, base)
        elif found:
            next(reversed(found.values())).steps.append((instruction, rest.strip()))
    return found


def lineage(name: str) -> list[Stage]:
    """The stage and those that it goes on from, itself first."""
    every = stages()
    line = [every[name]]
    while line[-1].base in every:
        line.append(every[line[-1].base])
    return line


def last(name: str, instruction: str) -> str:
    """What holds in the image: a later stage's word before an earlier one's."""
    for stage in lineage(name):
        if words := stage.of(instruction):
            return words[-1]
    raise AssertionError(f"{name} has no {instruction}")


def entrypoint(name: str) -> list[str]:
    words: list[str] = json.loads(last(name, "ENTRYPOINT"))
    return words
