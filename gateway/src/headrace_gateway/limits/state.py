"""A limit as the scripts get it, and how one stands: plain values that refusals and answers tell of."""

import msgspec

CheckedLimit = tuple[str, str, int, int] | tuple[str, str, int, int, tuple[int | str, ...]]
"""Kind, counter's key, ceiling, weight; `plan` says what a fifth member means."""


class LimitState(msgspec.Struct, frozen=True):
    """How a rate or a window stands once a request is admitted, or was not."""

    limit: CheckedLimit
    left: int
    full_in_seconds: float
    """Until nothing of it is used any more, if nothing is added."""
