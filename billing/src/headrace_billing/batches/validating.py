"""From a file to the requests of a batch, or to what is wrong with it, line by line."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

from headrace_billing.batches import file_store, line_store, store
from headrace_billing.batches.batch import ERRORS_MAX, Batch
from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.batches.line import Line, LineInvalid, numbered, read_line
from headrace_billing.database import Database

LINES_AT_ONCE = 500
LINES_BYTES_AT_ONCE = 4 * 2**20

MODELS_MAX = 20
"""Different ones in one batch: each is asked for."""


class Models(Protocol):
    async def knows(self, model: str, *, key_sha256: str) -> bool: ...


async def validate_next(database: Database, models: Models, *, bounds: BatchBounds, now: datetime) -> bool:
    """Takes one batch's file apart, whole or not at all; whether there was one."""
    async with database.begin() as session:
        found = await store.next_to_validate(session)
        if found is None:
            return False
        batch, key_sha256 = found
        if await file_store.find(session, batch.input_file, project=batch.project, at=now) is None:
            gone = _error(
                "input_file_gone", "The input file was deleted, or has expired.", param="input_file_id"
            )
            await store.refuse(session, batch.id, [gone], at=now)
            return True
        reading = Reading(batch, models, key_sha256=key_sha256, lines_max=bounds.lines_max)
        async for lines in _packed(reading.lines(file_store.pieces(database, batch.input_file))):
            await line_store.add(session, batch.id, lines, at=now)
        if reading.errors:
            await line_store.remove(session, batch.id)
            await store.refuse(session, batch.id, reading.errors, at=now)
        else:
            await store.start(session, batch.id, total=reading.total, at=now)
    return True


class Reading:
    """What of a file is known so far."""

    def __init__(self, batch: Batch, models: Models, *, key_sha256: str, lines_max: int) -> None:
        self.total = 0
        self.errors: list[dict[str, Any]] = []
        self._endpoint = batch.endpoint
        self._ask = models
        self._key_sha256 = key_sha256
        self._lines_max = lines_max
        self._seen: dict[str, int] = {}
        self._known: dict[str, bool] = {}

    async def lines(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[Line]:
        """Those that can be requests, until there are too many errors."""
        async for number, text in numbered(pieces):
            self.total += 1
            if self.total > self._lines_max:
                message = f"A batch has at most {self._lines_max} requests. Make several of it."
                self.errors.append(_error("too_many_lines", message))
                return
            try:
                line = await self._checked(number, text)
            except LineInvalid as error:
                self.errors.append(_error(error.code, str(error), line=number, param=error.param))
                if len(self.errors) >= ERRORS_MAX:
                    return
            else:
                yield line
        if self.total == 0:
            self.errors.append(_error("empty_file", "The input file has no request."))

    async def _checked(self, number: int, text: bytes) -> Line:
        line = read_line(number, text, endpoint=self._endpoint)
        first = self._seen.setdefault(line.custom_id, number)
        if first != number:
            raise LineInvalid(
                "duplicate_custom_id", f"custom_id was used on line {first} already.", param="custom_id"
            )
        if line.model not in self._known:
            if len(self._known) >= MODELS_MAX:
                raise LineInvalid(
                    "too_many_models", f"A batch asks at most {MODELS_MAX} models.", param="body.model"
                )
            self._known[line.model] = await self._ask.knows(line.model, key_sha256=self._key_sha256)
        if not self._known[line.model]:
            raise LineInvalid(
                "model_not_found",
                f"The model {line.model!r} does not exist or this key has no access to it.",
                param="body.model",
            )
        return line


async def _packed(lines: AsyncIterator[Line]) -> AsyncIterator[list[Line]]:
    """In groups that are worth a statement and no load for the memory."""
    packed, size = [], 0
    async for line in lines:
        packed.append(line)
        size += len(line.body)
        if len(packed) >= LINES_AT_ONCE or size >= LINES_BYTES_AT_ONCE:
            yield packed
            packed, size = [], 0
    if packed:
        yield packed


def _error(code: str, message: str, *, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "line": line, "param": param}
