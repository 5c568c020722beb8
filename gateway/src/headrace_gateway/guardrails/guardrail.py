"""What a plug-in is that looks at requests before they run and at answers before a client has them.

A factory is named by setting as `package.module:factory`, called once a worker with its options, and gives a
`Guardrail`. What must stay true: a plug-in that fails lets nothing through; texts are never logged here.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class About:
    """Whose request it is, and to which model."""

    org: str
    project: str
    model: str


class Watch(Protocol):
    """Looks at one answer as it comes."""

    async def refuses(self, text: str, part: Hashable) -> str | None:
        """Why no more may be given, the new text included; null where it may.

        `part` tells apart what does not belong together: choices, reasoning, a tool's arguments.
        """


class Guardrail(Protocol):
    async def refuses(self, texts: list[str], about: About) -> str | None:
        """Why the request may not run; null where it may. `texts`: everything in it that a model reads."""

    def watch(self, about: About) -> Watch | None:
        """Null where answers of such requests are not looked at."""
