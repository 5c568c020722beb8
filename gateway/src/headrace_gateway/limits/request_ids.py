"""Ids that clients give to their requests themselves, each to be used once within a project.

What must stay true: of two requests with one id only one is served, whichever gateways they reach; and an id whose
request was refused, or failed without the client's doing, may be used again, because clients try again with it; if its
gateway died, once whoever comes after that has settled it. So a claim has an owner: what is given back late, or over a
connection that was given up, frees nobody else's.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from secrets import token_hex

import structlog

from headrace_gateway.errors import DuplicateRequest, LimitsUnavailable
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError, ValkeyUnavailable

log = structlog.get_logger()

REMEMBERED_SECONDS = 3600
"""Far longer than a client tries again; and a bound on what a busy project keeps in Valkey."""

OWED_MAX = 1000
"""Ids that wait to be given back until Valkey answers again; beyond that they lapse by themselves."""

OWNERS_MAX = 8
"""Of one id, whose claims' answers were all lost."""

# Takes an id that is free or is held by one of the owners after the first two arguments, whose claims nobody uses.
_CLAIM = """
local held = redis.call('GET', KEYS[1])
local free = not held
for i = 3, #ARGV do free = free or held == ARGV[i] end
if not free then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
_GIVE_BACK = """
local held = redis.call('GET', KEYS[1])
for i = 1, #ARGV do if held == ARGV[i] then return redis.call('DEL', KEYS[1]) end end
return 0
"""


@dataclass(frozen=True, slots=True)
class ClaimedId:
    place: str
    owners: tuple[str, ...]
    """Any of which may hold it: more than one only while an answer is missing."""


class RequestIds:
    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._owed: dict[str, tuple[str, ...]] = {}
        """To be given back, by place."""

    async def claim(self, project: str, request_id: str) -> ClaimedId:
        """What to give back if the request is not served."""
        digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
        place, owner = f"hr:request-id:{project}:{digest}", token_hex(8)
        # Who tries again after an answer was lost must not be refused for what it left itself.
        unused = self._owed.pop(place, ())
        try:
            taken = await self._valkey.call("EVAL", _CLAIM, 1, place, owner, REMEMBERED_SECONDS, *unused)
        except ValkeyError as error:
            unsent = isinstance(error, ValkeyUnavailable)
            self._owe(ClaimedId(place, unused if unsent else (*unused, owner)))
            raise LimitsUnavailable("Limits can't be checked at the moment.") from error
        except asyncio.CancelledError:
            self.give_back(ClaimedId(place, (*unused, owner)))
            raise
        if not taken:
            raise DuplicateRequest(
                "`request_id` was used before. Send another one, or none.", param="request_id"
            )
        return ClaimedId(place, (owner,))

    def give_back(self, claim: ClaimedId) -> None:
        """Nobody waits for it: what can't be sent, or is not answered, is owed."""
        try:
            answer = self._valkey.call("EVAL", _GIVE_BACK, 1, claim.place, *claim.owners)
        except ValkeyError:
            self._owe(claim)
        else:
            answer.add_done_callback(partial(self._on_answer, claim))

    def give_back_owed(self) -> None:
        """Once Valkey answers again."""
        owed, self._owed = self._owed, {}
        for place, owners in owed.items():
            self.give_back(ClaimedId(place, owners))

    def _on_answer(self, claim: ClaimedId, answer: asyncio.Future[object]) -> None:
        if not answer.cancelled() and answer.exception() is not None:
            self._owe(claim)

    def _owe(self, claim: ClaimedId) -> None:
        owners = (*self._owed.get(claim.place, ()), *claim.owners)
        if not owners:
            return
        if len(self._owed) >= OWED_MAX or len(owners) > OWNERS_MAX:
            log.warning("request_id_kept", place=claim.place)
            return
        self._owed[claim.place] = owners
