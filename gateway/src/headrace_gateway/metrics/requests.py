"""What this process's requests came to: numbers that a request adds to where it is admitted, refused and settled.

What must stay true: a settled request costs a few additions here, whatever is scraped; the number of series is bounded.
"""

from collections.abc import Iterator
from enum import StrEnum

from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Dialect, Ending, TokenCounts
from headrace_gateway.http.problems import InternalError
from headrace_gateway.metrics import catalogue
from headrace_telemetry.metrics import Durations, Sample, sample

DEPLOYMENTS_MAX = 512
"""Told apart in the life of a process; those that come later share a series."""
LATER = "other"

OPERATIONS = {
    Dialect.OPENAI_CHAT: "chat",
    Dialect.OPENAI_COMPLETIONS: "text_completion",
    Dialect.OPENAI_RESPONSES: "chat",
    Dialect.OPENAI_EMBEDDINGS: "embeddings",
    Dialect.OPENAI_TRANSCRIPTIONS: "transcription",
    Dialect.ANTHROPIC_MESSAGES: "chat",
    Dialect.ZAI_CHAT: "chat",
    Dialect.ZAI_TRANSCRIPTIONS: "transcription",
}
"""As the conventions call what is done, where they have a word for it."""

PROVIDER = "headrace"


class Doubt(StrEnum):
    """What may be wrong with what an engine says that a request used."""

    MISSING = "missing"
    INVALID = "invalid"
    BEYOND_BOUND = "beyond_bound"


class Series:
    """The requests of one dialect at one deployment."""

    __slots__ = (
        "attempts",
        "completed",
        "deployment",
        "dialect",
        "doubts",
        "failed",
        "first_token",
        "model",
        "output_token",
        "running",
        "tokens",
    )

    def __init__(self, deployment: str, model: str, dialect: Dialect) -> None:
        self.deployment = deployment
        self.model = model
        self.dialect = dialect
        self.running = 0
        self.attempts = 0
        self.completed = Durations(catalogue.DURATION)
        self.failed: dict[Ending, Durations] = {}
        self.first_token = Durations(catalogue.FIRST_TOKEN)
        self.output_token = Durations(catalogue.OUTPUT_TOKEN)
        self.tokens = [0, 0, 0, 0, 0]
        self.doubts = dict.fromkeys(Doubt, 0)

    def begun(self) -> None:
        self.running += 1

    def settled(
        self,
        ending: Ending,
        tokens: TokenCounts,
        *,
        attempts: int,
        duration_us: int,
        first_token_us: int | None,
    ) -> None:
        """`first_token_us`: since admission; null where none was seen, as of a plain answer."""
        self.running -= 1
        self.attempts += attempts
        # Hashing a member of an enumeration costs as much as all of this, and nearly every request ends well.
        durations = self.completed if ending is Ending.COMPLETED else self._failed(ending)
        durations.add(duration_us)
        sums = self.tokens
        sums[0] += tokens.input_uncached
        sums[1] += tokens.cache_read
        sums[2] += tokens.cache_write
        sums[3] += tokens.output_visible
        sums[4] += tokens.reasoning
        if first_token_us is not None:
            self.first_token.add(first_token_us)
            later = tokens.output - 1
            if later > 0 and ending is Ending.COMPLETED:
                self.output_token.add((duration_us - first_token_us) // later)

    def doubted(self, doubt: Doubt) -> None:
        self.doubts[doubt] += 1

    def _failed(self, ending: Ending) -> Durations:
        durations = self.failed.get(ending)
        if durations is None:
            durations = self.failed[ending] = Durations(catalogue.DURATION)
        return durations

    def samples(self) -> Iterator[Sample]:
        place = (self.dialect.value, self.model, self.deployment)
        request = (OPERATIONS[self.dialect], PROVIDER, self.model, self.dialect.value, self.deployment)
        yield self.completed.sample(catalogue.DURATION, *request, "")
        yield sample(catalogue.REQUESTS, self.completed.count, *place, Ending.COMPLETED.value)
        for ending, durations in self.failed.items():
            yield durations.sample(catalogue.DURATION, *request, ending.value)
            yield sample(catalogue.REQUESTS, durations.count, *place, ending.value)
        yield self.first_token.sample(catalogue.FIRST_TOKEN, *request)
        yield self.output_token.sample(catalogue.OUTPUT_TOKEN, *request)
        yield sample(catalogue.ATTEMPTS, self.attempts, *place)
        for token_class, count in zip(TokenCounts.__struct_fields__, self.tokens, strict=True):
            yield sample(catalogue.TOKENS, count, *place, token_class)
        for doubt, count in self.doubts.items():
            yield sample(catalogue.USAGE_DOUBTS, count, *place, doubt.value)


class Requests:
    def __init__(self) -> None:
        self._series: dict[tuple[str, Dialect], Series] = {}
        self._waits: dict[tuple[str, str], Durations] = {}
        self._deployments: set[str] = set()
        # There before the first one: an alert on the increase of what appears as 1 never speaks of it.
        self.errors: dict[str, int] = {InternalError.code: 0}

    def of(self, deployment: Deployment, dialect: Dialect) -> Series:
        """Where a request there is to be counted."""
        series = self._series.get((deployment.id, dialect))
        return self._begin(deployment, dialect) if series is None else series

    def told(self, code: str) -> None:
        """A client was told an error."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def waited(self, deployment: Deployment, outcome: str, seconds: float) -> None:
        place = (self._known(deployment), outcome)
        durations = self._waits.get(place)
        if durations is None:
            durations = self._waits[place] = Durations(catalogue.QUEUE_WAIT)
        durations.add(round(seconds * 1_000_000))

    def samples(self) -> Iterator[Sample]:
        running: dict[str, int] = {}
        for series in self._series.values():
            running[series.deployment] = running.get(series.deployment, 0) + series.running
            yield from series.samples()
        for deployment, count in running.items():
            yield sample(catalogue.RUNNING, count, deployment)
        for code, count in self.errors.items():
            yield sample(catalogue.ERRORS, count, code)
        for place, durations in self._waits.items():
            yield durations.sample(catalogue.QUEUE_WAIT, *place)

    def _begin(self, deployment: Deployment, dialect: Dialect) -> Series:
        known = self._known(deployment)
        model = deployment.model if known != LATER else LATER
        key = (known, dialect)
        if key not in self._series:
            self._series[key] = Series(known, model, dialect)
        return self._series[key]

    def _known(self, deployment: Deployment) -> str:
        if deployment.id in self._deployments:
            return deployment.id
        if len(self._deployments) >= DEPLOYMENTS_MAX:
            return LATER
        self._deployments.add(deployment.id)
        return deployment.id
