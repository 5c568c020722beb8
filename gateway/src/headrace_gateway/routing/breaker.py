"""A circuit breaker for each deployment: what keeps failing is left alone for a while, then tried with one request.

What must stay true: while it is open nothing goes there but one request at a time, and none before the pause is over;
the pause is bounded. Every gateway learns for itself: a deployment may be out of reach from one node alone.

Deployments that never failed have no breaker, so that healthy requests pay for a look into an empty table.
"""

import random
import time
from collections import deque
from collections.abc import Callable

import structlog

from headrace_contracts.deployments import Deployment
from headrace_gateway.errors import UpstreamUnavailable

log = structlog.get_logger()

FAILURES_IN_A_ROW = 5
OUTCOMES = 20
FAILED_SHARE = 0.5
"""Open from so many failures without a success between, or from this share of the latest outcomes."""

PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 60.0
PAUSE_JITTER = 0.2
"""So that gateways do not all try at once."""


class Breaker:
    def __init__(self) -> None:
        self._outcomes: deque[bool] = deque(maxlen=OUTCOMES)
        self._in_a_row = 0
        self._pause = 0.0
        self._closed_from = 0.0
        self._open = False
        self._probing = False

    @property
    def spotless(self) -> bool:
        """Whether it says no more than none does."""
        return not self._open and all(self._outcomes)

    def seconds_left(self, now: float) -> float:
        """Until it may be tried again; 0 while it may."""
        if not self._open:
            return 0.0
        return max(0.0, self._closed_from - now) or (PAUSE_SECONDS_MIN if self._probing else 0.0)

    def begin(self) -> None:
        self._probing = self._open

    def abandon(self) -> None:
        """The request ended for another reason: nothing was learnt."""
        self._probing = False

    def succeed(self) -> None:
        if self._open:
            self._outcomes.clear()
        self._open = self._probing = False
        self._in_a_row, self._pause = 0, 0.0
        self._outcomes.append(True)

    def fail(self, now: float) -> bool:
        """Whether it is open from this on, or still."""
        self._in_a_row += 1
        self._outcomes.append(False)
        many = len(self._outcomes) == OUTCOMES and self._outcomes.count(False) >= OUTCOMES * FAILED_SHARE
        if self._open and not self._probing:
            return True  # one of those that were under way when it opened
        if self._probing or many or self._in_a_row >= FAILURES_IN_A_ROW:
            self._open, self._probing = True, False
            self._pause = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, 2 * self._pause))
            self._closed_from = now + self._pause * random.uniform(1 - PAUSE_JITTER, 1)  # noqa: S311 - no secret
        return self._open


class Breakers:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}

    def allows(self, deployment: Deployment) -> bool:
        breaker = self._breakers.get(deployment.id)
        return breaker is None or breaker.seconds_left(self._clock()) == 0

    def refusal(self, deployment: Deployment) -> UpstreamUnavailable:
        breaker = self._breakers.get(deployment.id)
        seconds = PAUSE_SECONDS_MIN if breaker is None else breaker.seconds_left(self._clock())
        return UpstreamUnavailable(retry_after_seconds=max(seconds, PAUSE_SECONDS_MIN))

    def begin(self, deployment: Deployment) -> None:
        """Raises `UpstreamUnavailable` where nothing may go there now."""
        breaker = self._breakers.get(deployment.id)
        if breaker is None:
            return
        if breaker.seconds_left(self._clock()) > 0:
            raise self.refusal(deployment)
        breaker.begin()

    def abandon(self, deployment: Deployment) -> None:
        breaker = self._breakers.get(deployment.id)
        if breaker is not None:
            breaker.abandon()

    def succeed(self, deployment: Deployment) -> None:
        breaker = self._breakers.get(deployment.id)
        if breaker is not None:
            breaker.succeed()
            if breaker.spotless:
                del self._breakers[deployment.id]

    def fail(self, deployment: Deployment) -> None:
        if self._breakers.setdefault(deployment.id, Breaker()).fail(self._clock()):
            log.warning("deployment_left_alone", deployment=deployment.id)


class RetryBudget:
    """What may be tried again: a share of the requests, so that a failing engine is not sent many times its load."""

    SHARE = 0.2
    SAVED_MAX = 10.0
    """A few failures among few requests are tried again all the same."""

    def __init__(self) -> None:
        self._saved = self.SAVED_MAX

    def deposit(self) -> None:
        if self._saved < self.SAVED_MAX:
            self._saved += self.SHARE

    def spend(self) -> bool:
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
