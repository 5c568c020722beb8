"""A guardrail of patterns that an operator writes down: secrets, numbers of cards, words that must not leave.

Options: `file`, a TOML document of

    [[pattern]]
    name = "card-number"             # told to the client
    expression = "\\b(?:\\d[ -]?){13,19}\\b"
    in = ["request", "answer"]       # both where it is left out
    organizations = ["org_…"]        # everybody's where it is left out

Expressions are RE2's, whose time grows with the text and nothing else, so that no text can stop a gateway. In a
stream a match is found across events as far back as `REACH_CHARACTERS`; what was given before it was whole stays given.
"""

import tomllib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import re2

from headrace_gateway.guardrails.guardrail import About

REACH_CHARACTERS = 512
PATTERNS_MAX = 1000

Place = Literal["request", "answer"]
BOTH: tuple[Place, ...] = ("request", "answer")


class PatternsInvalid(ValueError):
    """The file can't be what says which texts are refused."""


class Written(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    expression: str
    places: tuple[Place, ...] = msgspec.field(name="in", default=BOTH)
    organizations: tuple[str, ...] | None = None


class File(msgspec.Struct, forbid_unknown_fields=True):
    pattern: list[Written]


@dataclass(frozen=True, slots=True)
class Pattern:
    name: str
    expression: Any
    """RE2's, which has no types."""
    places: frozenset[Place]
    organizations: frozenset[str] | None

    def is_for(self, about: About, place: Place) -> bool:
        return place in self.places and (self.organizations is None or about.org in self.organizations)


class Patterns:
    """Implements `Guardrail`."""

    def __init__(self, *, file: str) -> None:
        """Raises `PatternsInvalid`."""
        self._patterns = read(Path(file))

    async def refuses(self, texts: list[str], about: About) -> str | None:
        patterns = self._for(about, "request")
        return next((found for text in texts if (found := _first(patterns, text)) is not None), None)

    def watch(self, about: About) -> "PatternWatch | None":
        patterns = self._for(about, "answer")
        return PatternWatch(patterns) if patterns else None

    def _for(self, about: About, place: Place) -> list[Pattern]:
        return [pattern for pattern in self._patterns if pattern.is_for(about, place)]


class PatternWatch:
    """Implements `Watch`."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = patterns
        self._ends: dict[Hashable, str] = {}

    async def refuses(self, text: str, part: Hashable) -> str | None:
        seen = self._ends.get(part, "") + text
        self._ends[part] = seen[-REACH_CHARACTERS:]
        return _first(self._patterns, seen)


def read(file: Path) -> list[Pattern]:
    """Raises `PatternsInvalid`."""
    try:
        written = msgspec.convert(tomllib.loads(file.read_text()), File).pattern
    except (OSError, ValueError) as error:
        raise PatternsInvalid(f"{file}: {error}") from error
    if len(written) > PATTERNS_MAX:
        raise PatternsInvalid(f"{file}: at most {PATTERNS_MAX} patterns")
    return [_compiled(each, file) for each in written]


def _compiled(written: Written, file: Path) -> Pattern:
    try:
        expression = re2.compile(written.expression)
    except re2.error as error:
        raise PatternsInvalid(f"{file}: {written.name}: {error}") from error
    if expression.search("") is not None:
        raise PatternsInvalid(f"{file}: {written.name}: it matches nothing at all, and so everything")
    organizations = None if written.organizations is None else frozenset(written.organizations)
    return Pattern(written.name, expression, frozenset(written.places), organizations)


def _first(patterns: Sequence[Pattern], text: str) -> str | None:
    return next((pattern.name for pattern in patterns if pattern.expression.search(text) is not None), None)
