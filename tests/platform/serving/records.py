"""Records, spools and a billing that keeps what it is sent, for the tests of serving."""

from headrace_contracts.engine import EngineEnding, EngineRecord
from headrace_platform.serving.attempts import Recorder

ATTEMPT = "0192f0c1-7c1e-7b33-9c9e-3f1f1b1c1d1e.1"


class Kept(list[EngineRecord]):
    """What a recorder has handed on, and a clock that advances with each look."""

    def clock(self) -> int:
        return 1_000 + len(self)

    def recorder(self) -> Recorder:
        return Recorder(
            self.append, replica="r1", deployment="glm-tiny-local", model="glm-tiny", clock=self.clock
        )

    @property
    def endings(self) -> list[EngineEnding]:
        return [record.ending for record in self]

    @property
    def last(self) -> EngineRecord:
        return self[-1]


def record(attempt: str = ATTEMPT, *, ending: EngineEnding = EngineEnding.FINISHED) -> EngineRecord:
    return EngineRecord(
        replica="r1",
        attempt=attempt,
        deployment="glm-tiny-local",
        model="glm-tiny",
        ending=ending,
        prompt=15,
        cached=0,
        output=18,
        started_at_us=1,
    )
