"""What an answer tells of the limits it counts in: OpenAI's `x-ratelimit-*`, for requests and for tokens.

Of several limits the one with the least left is told. Limits counted in neither (credits, concurrency, money) are not.
"""

from collections.abc import Iterable, Mapping

from headrace_contracts.access import LimitKind, WindowUnit
from headrace_gateway.limits.limiter import LimitState

REQUESTS, TOKENS = "requests", "tokens"


def rate_limit_headers(states: Iterable[LimitState]) -> Mapping[str, str]:
    tightest: dict[str, LimitState] = {}
    for state in states:
        unit = _unit(state)
        if unit is not None and (unit not in tightest or state.left < tightest[unit].left):
            tightest[unit] = state
    headers = {}
    for unit, state in tightest.items():
        headers[f"x-ratelimit-limit-{unit}"] = str(state.limit[2])
        headers[f"x-ratelimit-remaining-{unit}"] = str(state.left)
        headers[f"x-ratelimit-reset-{unit}"] = f"{state.full_in_seconds:.3f}s"
    return headers


def _unit(state: LimitState) -> str | None:
    kind = state.limit[0]
    if kind.endswith("_window"):
        name = state.limit[1].split(":", 3)[2]
        unit = name.split("-")[3]
        return unit if unit in (WindowUnit.REQUESTS, WindowUnit.TOKENS) else None
    if kind == LimitKind.REQUESTS_PER_MINUTE:
        return REQUESTS
    return TOKENS
