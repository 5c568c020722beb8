"""Responses that clients refer to later: in Valkey, so that any gateway finds them, and within bounds.

What must stay true: a response is found by its own project alone; what is kept never grows past its bounds,
because the same Valkey holds the limits; and losing any of it costs a client no more than sending its
conversation again.
"""

from importlib.resources import files

import msgspec
import structlog

from headrace_gateway.errors import LimitsUnavailable
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError
from headrace_gateway.valkey.functions import Library

log = structlog.get_logger()

LIFE_SECONDS = 24 * 3600
DOCUMENT_BYTES_MAX = 1024 * 1024
"""A conversation of a quarter of a million tokens; a longer one is better kept by its client."""
PROJECT_BYTES_MAX = 16 * 1024 * 1024
ALL_BYTES_MAX = 256 * 1024 * 1024


class Stored(msgspec.Struct, frozen=True):
    response: msgspec.Raw
    """As the client got it."""
    items: list[msgspec.Raw]
    """The whole conversation up to and with it, as a later request's input begins."""


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Stored).decode


class ResponseStore:
    def __init__(
        self,
        valkey: Valkey,
        *,
        life_seconds: float = LIFE_SECONDS,
        project_bytes_max: int = PROJECT_BYTES_MAX,
        all_bytes_max: int = ALL_BYTES_MAX,
    ) -> None:
        self._valkey = valkey
        self._bounds = (project_bytes_max, all_bytes_max)
        self._life_ms = round(life_seconds * 1000)
        body = (files("headrace_gateway.responses") / "store.lua").read_text()
        self._keep_or_forget = Library("responses", {"store": body})["store"]

    async def keep(self, project: str, response_id: str, stored: Stored) -> None:
        """Fails silently but for the log: the client has its answer either way."""
        document = _encode(stored)
        if len(document) > DOCUMENT_BYTES_MAX:
            log.info("response_too_large_to_keep", response=response_id, size_bytes=len(document))
            return
        try:
            await self._run(project, response_id, document)
        except ValkeyError as error:
            log.warning("response_not_kept", response=response_id, error=str(error))

    async def find(self, project: str, response_id: str) -> Stored | None:
        try:
            document = await self._valkey.call("GET", _key(project, response_id))
        except ValkeyError as error:
            raise LimitsUnavailable("Stored responses can't be read at the moment.") from error
        return None if document is None else _decode(document)

    async def forget(self, project: str, response_id: str) -> bool:
        """Whether there was one."""
        try:
            return bool(await self._run(project, response_id, b""))
        except ValkeyError as error:
            raise LimitsUnavailable("Stored responses can't be reached at the moment.") from error

    async def _run(self, project: str, response_id: str, document: bytes) -> object:
        return await self._keep_or_forget.run(
            self._valkey,
            _key(project, response_id),
            document,
            self._life_ms,
            project,
            *self._bounds,
        )


def _key(project: str, response_id: str) -> str:
    return f"hr:response:{project}:{response_id}"
