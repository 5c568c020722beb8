"""A circuit breaker for each deployment: what keeps failing is left alone for a while, then tried with one request.

What must stay true: while it is open nothing goes there but one request at a time, and none before the pause is over;
the pause is bounded. Every gateway learns for itself: a deployment may be out of reach from one node alone. And no
organisation opens one by the errors that its own requests are answered with: an engine that answers is there, and why
it failed may be what it was asked. Such a deployment is that organisation's last choice, and nobody else's.

Deployments that never failed have no breaker, so that healthy requests pay for a look into an empty table.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

import structlog

from headrace_contracts.deployments import Deployment
from headrace_gateway.errors import UpstreamUnavailable

log = structlog.get_logger()

FAILURES_IN_A_ROW = 5
OUTCOMES = 20
FAILED_SHARE = 0.5
"""Open from so many failures without a success between, or from this share of the latest outcomes."""

NOBODY = ""
"""Whose failures those are that no request can be the reason of."""

ORGS_OWN_MAX = 1024
"""Breakers of single organisations, per worker; the oldest goes first, and is learnt again from five requests."""

Key = TypeVar("Key")

PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 60.0
PAUSE_JITTER = 0.2
"""So that gateways do not all try at once."""


def weight_of(failures: Counter[str]) -> int:
    """How many of them count, by whose requests failed: of one organisation's no more than everybody else's and one.

    One that fails alone is so one failure, however many; five count as five where two of them are others'.
    """
    most = max([count for org, count in failures.items() if org != NOBODY], default=0)
    others = failures.total() - most
    return others + min(most, others + 1)


class Breaker:
    def __init__(self) -> None:
        self._outcomes: deque[str | None] = deque(maxlen=OUTCOMES)
        """Whose request failed; null for a success."""
        self._in_a_row: Counter[str] = Counter()
        self._pause = 0.0
        self._closed_from = 0.0
        self._open = False
        self._probing = False

    @property
    def spotless(self) -> bool:
        """Whether it says no more than none does."""
        return not self._open and self._outcomes.count(None) == len(self._outcomes)

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
        self._close()
        self._pause = 0.0
        self._in_a_row.clear()
        self._outcomes.append(None)

    def fail(self, now: float, org: str = NOBODY) -> bool:
        """Whether it is open from this on, or still. `org`: whose request may be the reason."""
        if self._open and not self._probing:
            return True  # one of those that were under way when it opened
        if self._probing and org != NOBODY:
            # It is there again; whether it serves others is for their requests to tell.
            self._close()
        self._in_a_row[org] += 1
        self._outcomes.append(org)
        if self._probing or self._is_failing():
            self._open, self._probing = True, False
            self._in_a_row.clear()
            self._pause = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, 2 * self._pause))
            self._closed_from = now + self._pause * random.uniform(1 - PAUSE_JITTER, 1)  # noqa: S311 - no secret
        return self._open

    def _close(self) -> None:
        if self._open:
            self._outcomes.clear()
        self._open = self._probing = False

    def _is_failing(self) -> bool:
        if weight_of(self._in_a_row) >= FAILURES_IN_A_ROW:
            return True
        failed = Counter([org for org in self._outcomes if org is not None])
        return len(self._outcomes) == OUTCOMES and weight_of(failed) >= OUTCOMES * FAILED_SHARE


class Breakers:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}
        self._orgs_own: dict[tuple[str, str], Breaker] = {}
        """Of the errors that a deployment answers one organisation with."""

    def allows(self, deployment: Deployment) -> bool:
        breaker = self._breakers.get(deployment.id)
        return breaker is None or breaker.seconds_left(self._clock()) == 0

    def disfavours(self, deployment: Deployment, org: str) -> bool:
        """Whether the organisation's requests are better sent elsewhere, if there is an elsewhere."""
        if not self._orgs_own:
            return False
        own = self._orgs_own.get((deployment.id, org))
        return own is not None and own.seconds_left(self._clock()) > 0

    def refusal(self, deployment: Deployment) -> UpstreamUnavailable:
        breaker = self._breakers.get(deployment.id)
        seconds = PAUSE_SECONDS_MIN if breaker is None else breaker.seconds_left(self._clock())
        return UpstreamUnavailable(retry_after_seconds=max(seconds, PAUSE_SECONDS_MIN))

    def begin(self, deployment: Deployment, org: str) -> None:
        """Raises `UpstreamUnavailable` where nothing may go there now."""
        breaker = self._breakers.get(deployment.id)
        if breaker is not None:
            if breaker.seconds_left(self._clock()) > 0:
                raise self.refusal(deployment)
            breaker.begin()
        if self._orgs_own and (own := self._orgs_own.get((deployment.id, org))) is not None:
            own.begin()

    def abandon(self, deployment: Deployment, org: str) -> None:
        breaker = self._breakers.get(deployment.id)
        if breaker is not None:
            breaker.abandon()
        if self._orgs_own and (own := self._orgs_own.get((deployment.id, org))) is not None:
            own.abandon()

    def succeed(self, deployment: Deployment, org: str) -> None:
        if self._breakers:
            _succeed(self._breakers, deployment.id)
        if self._orgs_own:
            _succeed(self._orgs_own, (deployment.id, org))

    def fail(self, deployment: Deployment, org: str) -> None:
        """It could not be reached, or was too slow: whoever asks."""
        if self._orgs_own and (own := self._orgs_own.get((deployment.id, org))) is not None:
            own.abandon()
        if self._breakers.setdefault(deployment.id, Breaker()).fail(self._clock()):
            log.warning("deployment_left_alone", deployment=deployment.id)

    def fail_for(self, deployment: Deployment, org: str) -> None:
        """It answered the organisation's request with an error, which may be the request's fault."""
        if self._breakers.setdefault(deployment.id, Breaker()).fail(self._clock(), org):
            log.warning("deployment_left_alone", deployment=deployment.id)
        own = self._orgs_own.get((deployment.id, org))
        if own is None:
            if len(self._orgs_own) >= ORGS_OWN_MAX:
                del self._orgs_own[next(iter(self._orgs_own))]
            own = self._orgs_own[deployment.id, org] = Breaker()
        if own.fail(self._clock()):
            log.warning("deployment_disfavoured", deployment=deployment.id, org=org)


def _succeed(breakers: dict[Key, Breaker], key: Key) -> None:
    breaker = breakers.get(key)
    if breaker is not None:
        breaker.succeed()
        if breaker.spotless:
            del breakers[key]


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
        """For a try at another deployment, which may be whole. Whether there was something left."""
        return self._spend(leaving=0)

    def spend_at_the_same(self) -> bool:
        """For another try at the deployment that failed: half of what may be saved up is not for these."""
        return self._spend(leaving=self.SAVED_MAX / 2)

    def _spend(self, *, leaving: float) -> bool:
        if self._saved - 1 < leaving:
            return False
        self._saved -= 1
        return True
