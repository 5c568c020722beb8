"""Settlements on their way to Valkey: sent at once, and again behind the request until Valkey has answered.

Nothing depends on them alone. The journal has the event, and the in-flight table keeps the request until Valkey has
answered; so when more wait than `UNSETTLED_MAX`, the oldest may be given up: the next start settles it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from headrace_contracts.usage import TokenCounts
from headrace_gateway.limits.idempotency import Outcome
from headrace_gateway.limits.limiter import Limiter
from headrace_gateway.valkey.errors import ValkeyError

log = structlog.get_logger()

UNSETTLED_MAX = 10_000  # some 1 KiB each
RETRY_SECONDS = 0.25
RETRY_BATCH = 500


@dataclass(slots=True)
class Settlement:
    id: str
    cost: int
    tokens: TokenCounts
    event: bytes
    then: Callable[[], None]
    outcome: Outcome | None = None
    since: float = 0.0
    """From when on it waits to be sent again, by the monotonic clock; 0 while it was sent once."""


class Settler:
    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._waiting: deque[Settlement] = deque()
        self._asked = 0
        self.given_up = 0

    @property
    def outstanding(self) -> int:
        return self._asked + len(self._waiting)

    @property
    def waiting_since(self) -> float | None:
        """Of the one that has waited longest to be sent again; null where none waits."""
        return min((settlement.since for settlement in self._waiting), default=None)

    def settle(
        self,
        request_id: str,
        *,
        cost: int,
        tokens: TokenCounts,
        event: bytes,
        then: Callable[[], None] = lambda: None,
        outcome: Outcome | None = None,
    ) -> None:
        """Calls `then` when Valkey has answered, however long that takes."""
        self._send(Settlement(request_id, cost, tokens, event, then, outcome))

    async def retry_forever(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            for _ in range(min(len(self._waiting), RETRY_BATCH)):
                self._send(self._waiting.popleft())

    def _send(self, settlement: Settlement) -> None:
        try:
            self._limiter.settle(
                settlement.id,
                cost=settlement.cost,
                tokens=settlement.tokens,
                event=settlement.event,
                outcome=settlement.outcome,
                then=partial(self._on_answer, settlement),
            )
        except ValkeyError:
            self._later(settlement)
        else:
            self._asked += 1

    def _on_answer(self, settlement: Settlement, reply: Any) -> None:
        self._asked -= 1
        if isinstance(reply, ValkeyError):
            log.warning("settlement_retried", request=settlement.id, error=str(reply))
            self._later(settlement)
        else:
            settlement.then()

    def _later(self, settlement: Settlement) -> None:
        if len(self._waiting) >= UNSETTLED_MAX:
            given_up = self._waiting.popleft()
            self.given_up += 1
            log.error("settlement_given_up", request=given_up.id)
        if settlement.outcome is not None:
            # Answers are too large to wait by the thousand.
            settlement.outcome = settlement.outcome.brief_alone()
        settlement.since = settlement.since or time.monotonic()
        self._waiting.append(settlement)
