"""A real completion through an endpoint: the only thing that shows that a model answers.

The engine counts it as a probe, for it comes from no gateway; it is one token long and is never billed.
"""

from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import msgspec

# Behind a full queue of a busy deployment; a new one has compiled its kernels before Serve calls it healthy.
TIMEOUT_SECONDS = 60.0
ANSWER_BYTES_MAX = 64 * 1024
REASON_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it; `problem` is None where a token came back."""

    problem: str | None = None

    @property
    def is_good(self) -> bool:
        return self.problem is None


class _Choice(msgspec.Struct):
    index: int


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage


@dataclass(frozen=True, slots=True)
class Prober:
    session: aiohttp.ClientSession
    timeout_seconds: float = TIMEOUT_SECONDS

    async def probe(self, url: str, engine_model: str) -> Answered:
        """Never raises: whatever goes wrong is the answer."""
        body = {
            "model": engine_model,
            "messages": [{"role": "user", "content": "1"}],
            "max_tokens": 1,
            "temperature": 0,
        }
        timeout = aiohttp.ClientTimeout(total=self.timeout_seconds)
        try:
            async with self.session.post(
                f"{url}/v1/chat/completions", json=body, timeout=timeout
            ) as response:
                raw = b""
                async for piece in response.content.iter_any():
                    raw += piece
                    if len(raw) > ANSWER_BYTES_MAX:
                        break
        except TimeoutError:
            return Answered(f"no answer from {url} within {self.timeout_seconds:g} s")
        except aiohttp.ClientError as error:
            return Answered(f"{url}: {type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX])
        if response.status != HTTPStatus.OK:
            said = raw.decode(errors="replace")
            return Answered(f"{url} answered {response.status}: {said}"[:REASON_CHARACTERS_MAX])
        try:
            completion = msgspec.json.decode(raw, type=_Completion)
        except msgspec.MsgspecError as error:
            return Answered(f"{url} answered no completion: {error}"[:REASON_CHARACTERS_MAX])
        if not completion.choices or completion.usage.completion_tokens < 1:
            return Answered(f"{url} answered without a token")
        return Answered()
