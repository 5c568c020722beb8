"""A state machine whose rules act on a limiter, on a Valkey that it empties."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine

from headrace_gateway.limits.idempotency import ANSWER_BOUNDS, AnswerBounds
from headrace_gateway.limits.limiter import Limiter
from headrace_gateway.valkey.connection import Valkey
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS

Result = TypeVar("Result")


class LimiterMachine(RuleBasedStateMachine):
    def __init__(self, url: str, client: redis.Redis, *, answers: AnswerBounds = ANSWER_BOUNDS) -> None:
        super().__init__()
        self.client = client
        self.client.flushall()
        self.runner = asyncio.Runner()
        self.valkey = Valkey(url, timeout_seconds=VALKEY_TIMEOUT_SECONDS)
        self.run(self.valkey.start())
        self.limiter = Limiter(self.valkey, gateway="g", lease_ttl_seconds=60, answers=answers)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        self.run(self.valkey.close())
        self.runner.close()


def steps(count: int) -> settings:
    return settings(
        max_examples=30, stateful_step_count=count, deadline=None, suppress_health_check=list(HealthCheck)
    )
