"""What the demo claims, each claim either seen or the reason why the demo fails."""

from dataclasses import dataclass, field


class ClaimFailed(Exception):
    """Something that Headrace promises did not hold; the message says what was seen."""


@dataclass(slots=True)
class Claims:
    seen: list[str] = field(default_factory=list)

    def that(self, claim: str, holds: object, *, saw: object = "") -> None:
        """Raises `ClaimFailed` at the first claim that does not hold: what follows would mislead."""
        if not holds:
            raise ClaimFailed(f"{claim}: saw {saw}" if saw != "" else claim)
        self.seen.append(claim)
