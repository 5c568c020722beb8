"""When a delivery that failed is tried again, when it is given up, and when an endpoint is left alone."""

from datetime import datetime, timedelta

FIRST_PAUSE = timedelta(seconds=5)
GROWTH = 4
PAUSE_MAX = timedelta(hours=8)
# 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, 6 h, then every 8 h: a receiver that was down over a weekend misses nothing.
AGE_MAX = timedelta(days=3)
# Longer than one delivery's life: an endpoint that one message upset goes on with the next.
FAILING_MAX = timedelta(days=5)
# A quarter to look back on and to replay; the books keep what happened for good.
KEPT = timedelta(days=90)
JITTER = 0.2
"""So that what failed together doesn't come back together."""


def next_attempt(*, attempts: int, since: datetime, now: datetime, chance: float) -> datetime | None:
    """When to try once more after so many attempts; null gives it up. `chance` is from [0, 1)."""
    assert attempts > 0, attempts
    pause = min(FIRST_PAUSE * GROWTH ** min(attempts - 1, 20), PAUSE_MAX)
    at = now + pause * (1 + JITTER * (2 * chance - 1))
    return None if at > since + AGE_MAX else at


def to_be_disabled(*, failing_since: datetime, now: datetime) -> bool:
    return now - failing_since >= FAILING_MAX
