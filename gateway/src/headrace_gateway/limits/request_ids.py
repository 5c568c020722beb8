"""Ids that clients give to their requests themselves, each to be used once within a project.

What must stay true: of two requests with one id only one is served, whichever gateways they reach; and an id whose
request was refused, or failed without the client's doing, may be used again, because clients try again with it.
"""

import asyncio
import hashlib

import structlog

from headrace_gateway.errors import DuplicateRequest, LimitsUnavailable
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError

log = structlog.get_logger()

REMEMBERED_SECONDS = 3600
"""Far longer than a client tries again; and a bound on what a busy project keeps in Valkey."""


class RequestIds:
    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    async def claim(self, project: str, request_id: str) -> str:
        """What to give back if the request is not served."""
        digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
        claim = f"hr:request-id:{project}:{digest}"
        try:
            taken = await self._valkey.call("SET", claim, "1", "NX", "EX", str(REMEMBERED_SECONDS))
        except ValkeyError as error:
            raise LimitsUnavailable("Limits can't be checked at the moment.") from error
        if taken is None:
            raise DuplicateRequest(
                "`request_id` was used before. Send another one, or none.", param="request_id"
            )
        return claim

    def give_back(self, claim: str) -> None:
        """Nobody waits for it: at worst the id lapses by itself."""
        try:
            self._valkey.call("DEL", claim).add_done_callback(_log_failure)
        except ValkeyError as error:
            log.warning("request_id_kept", error=str(error))


def _log_failure(answer: asyncio.Future[object]) -> None:
    if not answer.cancelled() and (error := answer.exception()) is not None:
        log.warning("request_id_kept", error=str(error))
