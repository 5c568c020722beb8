"""What an answer tells of the limits it counts in: OpenAI's `x-ratelimit-*`, or Anthropic's `anthropic-ratelimit-*`.

Of several limits the one with the least left is told. Limits counted in neither requests nor tokens (credits,
concurrency, money) are not.
"""

import math
import time
from collections.abc import Iterable
from functools import lru_cache

from headrace_contracts.access import LimitKind, WindowUnit
from headrace_gateway.limits.state import LimitState

Headers = list[tuple[str, str]]

WINDOWS_MAX = 4096
"""Whose units stay read: those of a busy gateway's keys."""

REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS = "requests", "tokens", "input-tokens", "output-tokens"

UNITS: dict[str, tuple[str, ...]] = {
    LimitKind.REQUESTS_PER_MINUTE: (REQUESTS,),
    LimitKind.TOKENS_PER_MINUTE: (TOKENS,),
    LimitKind.INPUT_TOKENS_PER_MINUTE: (TOKENS, INPUT_TOKENS),
    LimitKind.CACHED_TOKENS_PER_MINUTE: (TOKENS,),
    LimitKind.OUTPUT_TOKENS_PER_MINUTE: (TOKENS, OUTPUT_TOKENS),
}

OPENAI_NAMES = {
    unit: (f"x-ratelimit-limit-{unit}", f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
    for unit in (REQUESTS, TOKENS)
}

ANTHROPIC_NAMES = {
    unit: tuple(f"anthropic-ratelimit-{unit}-{what}" for what in ("limit", "remaining", "reset"))
    for unit in (REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS)
}


def openai_headers(states: Iterable[LimitState]) -> Headers:
    """Resets as durations from now."""
    headers = []
    for unit, state in _tightest(states).items():
        if unit in OPENAI_NAMES:
            ceiling, remaining, reset = OPENAI_NAMES[unit]
            headers += [
                (ceiling, str(state.limit[2])),
                (remaining, str(state.left)),
                (reset, duration(state.full_in_seconds)),
            ]
    return headers


def anthropic_headers(states: Iterable[LimitState], *, now_seconds: float) -> Headers:
    """Resets as moments, RFC 3339. `now_seconds`: since the Unix epoch."""
    headers = []
    for unit, state in _tightest(states).items():
        ceiling, remaining, reset = ANTHROPIC_NAMES[unit]
        at = time.gmtime(math.ceil(now_seconds + state.full_in_seconds))
        headers += [
            (ceiling, str(state.limit[2])),
            (remaining, str(state.left)),
            (reset, time.strftime("%Y-%m-%dT%H:%M:%SZ", at)),
        ]
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it, `6m0s` or `17ms`: clients parse whole numbers with units. Never less than it is."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, whole = divmod(-(-milliseconds // 1000), 60)
    if minutes < 60:
        return f"{minutes}m{whole}s" if minutes else f"{whole}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{whole}s"


def _tightest(states: Iterable[LimitState]) -> dict[str, LimitState]:
    found: dict[str, LimitState] = {}
    for state in states:
        for unit in UNITS.get(state.limit[0]) or _units_of_window(state.limit[1]):
            if unit not in found or state.left < found[unit].left:
                found[unit] = state
    return found


@lru_cache(maxsize=WINDOWS_MAX)
def _units_of_window(counter: str) -> tuple[str, ...]:
    name = counter.split(":", 3)[2]
    unit = name.split("-")[3]
    return (unit,) if unit in (WindowUnit.REQUESTS, WindowUnit.TOKENS) else ()
