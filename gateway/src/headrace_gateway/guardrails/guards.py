"""All guardrails of a gateway, asked one after the other; the first that refuses decides."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import structlog
from pydantic import ConfigDict, with_config

from headrace_gateway.errors import ContentRefused, GuardrailFailed
from headrace_gateway.guardrails.guardrail import About, Guardrail, Watch
from headrace_gateway.guardrails.spoken import Unreadable, asked_in

log = structlog.get_logger()

SECONDS_MAX = 5.0
"""For one guardrail to say what it thinks of one request, or of a piece of an answer."""


UNREADABLE = "a prompt of tokens can't be looked at, send its text"
"""Why it is refused, whatever guardrails there are."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PlugIn:
    """One of the setting's list, as pydantic reads it from an object of JSON."""

    plugin: str
    """`package.module:factory`"""
    options: dict[str, Any] = field(default_factory=dict)


class PlugInInvalid(ValueError):
    """A guardrail can't be opened as the setting says."""


class Guards:
    def __init__(self, guardrails: Sequence[Guardrail] = ()) -> None:
        self._guardrails = guardrails

    def __bool__(self) -> bool:
        return bool(self._guardrails)

    async def check(self, body: bytes, about: About) -> None:
        """Raises `ContentRefused`, or `GuardrailFailed`."""
        try:
            texts = asked_in(body)
        except Unreadable as error:
            raise ContentRefused(UNREADABLE) from error
        for guardrail in self._guardrails:
            reason = await _asked(lambda guardrail=guardrail: guardrail.refuses(texts, about))  # type: ignore[misc]
            if reason is not None:
                raise ContentRefused(reason)

    def watch(self, about: About) -> "AnswerWatch | None":
        """Null where nobody looks at the answer."""
        watches = [watch for each in self._guardrails if (watch := each.watch(about)) is not None]
        return AnswerWatch(watches) if watches else None


class AnswerWatch:
    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    async def refuses(self, said: Iterable[tuple[Hashable, str]]) -> str | None:
        """Why an answer may not go on; null where it may. Raises `GuardrailFailed`."""
        for part, text in said:
            for watch in self._watches:
                reason = await _asked(lambda watch=watch: watch.refuses(text, part))  # type: ignore[misc]  # noqa: B023 - called at once
                if reason is not None:
                    return reason
        return None


def open_guards(plug_ins: Iterable[PlugIn]) -> Guards:
    """Raises `PlugInInvalid`."""
    return Guards([_opened(each) for each in plug_ins])


def _opened(plug_in: PlugIn) -> Guardrail:
    module, _, factory = plug_in.plugin.partition(":")
    try:
        guardrail: Guardrail = getattr(import_module(module), factory)(**plug_in.options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PlugInInvalid(f"guardrail {plug_in.plugin}: {error}") from error
    return guardrail


async def _asked(ask: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        async with asyncio.timeout(SECONDS_MAX):
            return await ask()
    except Exception as error:
        # What it says may quote the text, so it goes nowhere.
        log.error("guardrail_failed", error=type(error).__name__)  # noqa: TRY400 - see above
        raise GuardrailFailed from error
