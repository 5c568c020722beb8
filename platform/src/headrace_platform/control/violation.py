"""One thing that is wrong with a deployment: stable code, where, and what to change."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    code: str
    """Also the reason of the condition `Accepted`, in camel case."""
    path: str
    """The field, as `spec.scaling.maxReplicas`."""
    message: str
    """What to change."""

    @property
    def reason(self) -> str:
        return "".join(part.capitalize() for part in self.code.split("_"))
