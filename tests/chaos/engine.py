"""The scripted engine of a run: it says to each visit what the plan wants, knows exactly what it served, and ships
records of that by the replica's own spool and shipper.
"""

import re
import time
from pathlib import Path
from typing import Any

import msgspec

from headrace_contracts.engine import EngineEnding, EngineRecord
from headrace_contracts.usage import Dialect
from headrace_platform.serving.shipping import Billing, Shipper
from headrace_platform.serving.spool import Spool
from tests.chaos.facts import Served
from tests.chaos.schedule import Plan, Trouble, Visit
from tests.support.upstream import Attempt, Behaviour, FakeEngine

MODEL = "glm-chaos"
DEPLOYMENT = "glm-chaos-1"
REPLICA = "replica-1"
CONTEXT_TOKENS = 2048
SLOTS = 8
"""So few that requests wait for them."""
PROMPT_TOKENS = 7
CACHED_TOKENS = 3

ENDINGS = {
    "finished": EngineEnding.FINISHED,
    "aborted": EngineEnding.ABORTED,
    "cancelled": EngineEnding.ABORTED,
    "failed": EngineEnding.FAILED,
    "started": EngineEnding.STARTED,
}

# A slow reader must be slower than what buffers on the way can hold.
SLOW_READERS_TEXT = "x" * 4000

_NUMBER = re.compile(r"visit (\d+)")
_encode = msgspec.json.Encoder().encode


def prompt_of(visit: Visit) -> str:
    return f"visit {visit.number}"


class ScriptedEngine(FakeEngine):
    def __init__(self, plan: Plan, folder: Path, *, records_url: str, ingest_token: str) -> None:
        super().__init__()
        self.served: dict[str, Served] = {}
        """By attempt, as it stands now."""
        self._visits = {visit.number: visit for visit in plan.visits}
        self._spool = Spool(folder, REPLICA)
        self.shipper = Shipper(self._spool, Billing(records_url, ingest_token))

    def behaviour_for(self, attempt: Attempt) -> Behaviour:
        visit = self._visits[number_in(attempt.body)]
        # The next attempt finds the engine well.
        trouble = visit.trouble if attempt.id.endswith(".1") else None
        half = max(1, visit.tokens // 2)
        return Behaviour(
            tokens=visit.tokens,
            prompt_tokens=PROMPT_TOKENS,
            cached_tokens=CACHED_TOKENS,
            cached_header=True,
            text=SLOW_READERS_TEXT if visit.slow_reader else "word",
            before_each_seconds=visit.each_seconds,
            tool=visit.tools and visit.dialect is Dialect.ANTHROPIC_MESSAGES and visit.tokens > 2,
            break_after=half if trouble is Trouble.BREAKS else None,
            error_event_after=half if trouble is Trouble.SAYS_ERROR else None,
            hang_after=half if trouble is Trouble.HANGS else None,
            status=503 if trouble is Trouble.BUSY else 200,
            reset=trouble is Trouble.RESETS,
        )

    def began(self, attempt: Attempt) -> None:
        self.served[attempt.id] = served_by(attempt, began_at_us=now_us(), ended_at_us=None)
        self._keep(self.served[attempt.id])

    def ended(self, attempt: Attempt) -> None:
        began_at_us = self.served[attempt.id].began_at_us
        self.served[attempt.id] = served_by(attempt, began_at_us=began_at_us, ended_at_us=now_us())
        self._keep(self.served[attempt.id])

    def _keep(self, served: Served) -> None:
        record = EngineRecord(
            replica=REPLICA,
            attempt=served.attempt,
            deployment=DEPLOYMENT,
            model=MODEL,
            ending=ENDINGS[served.ending],
            prompt=served.prompt,
            cached=min(CACHED_TOKENS, served.prompt),
            output=served.output,
            started_at_us=served.began_at_us,
            finished_at_us=served.ended_at_us,
        )
        self._spool.append(_encode(record))
        self.shipper.notice()


def served_by(attempt: Attempt, *, began_at_us: int, ended_at_us: int | None) -> Served:
    return Served(
        attempt=attempt.id,
        visit=number_in(attempt.body),
        prompt=attempt.prompt,
        output=attempt.yielded,
        ending=attempt.ending,
        began_at_us=began_at_us,
        ended_at_us=ended_at_us,
    )


def number_in(body: dict[str, Any]) -> int:
    messages = body.get("messages")
    said = messages[0]["content"] if messages else body["prompt"]
    found = _NUMBER.search(said)
    assert found is not None, said
    return int(found[1])


def now_us() -> int:
    return time.time_ns() // 1000
