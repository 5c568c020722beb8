"""`/v1/responses/{id}`, and the conversations that requests go on from: kept for any gateway and any replica.

What must stay true: a response is shown, gone on from and forgotten within its project alone; and it is kept
before the client has the end of its answer, so that whoever has read an answer can go on from it.
"""

from dataclasses import dataclass

import msgspec

from headrace_contracts.access import KeyScope
from headrace_gateway.call import Caller, Meter
from headrace_gateway.dialects.responses_request import RESPONSE_ID_CHARACTERS_MAX, ResponsesRequest
from headrace_gateway.errors import NotOffered, PreviousResponseNotFound, ResponseNotFound
from headrace_gateway.http.authorization import bearer_token
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.models import JSON
from headrace_gateway.http.shapes import identity_of
from headrace_gateway.responses.store import ResponseStore, Stored


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request with what it goes on from, and where its answer is kept."""

    request: ResponsesRequest
    project: str
    store: ResponseStore

    async def keep(self) -> None:
        """What was answered, if the client wants it kept and there was an answer."""
        final = self.request.final
        if self.request.stores and final.id:
            items = [*self.request.items, *final.output]
            stored = Stored(response=final.body, items=items)
            await self.store.keep(self.project, final.id, stored, output=final.output)


class Responses:
    def __init__(self, meter: Meter, store: ResponseStore, addresses: ClientAddresses) -> None:
        self._meter = meter
        self._store = store
        self._addresses = addresses

    async def conversation(self, request: ResponsesRequest, caller: Caller) -> Conversation:
        """Raises `PreviousResponseNotFound` and `ItemNotFound`."""
        project = caller.project_id
        if request.references:
            found = await self._store.items(project, list(request.references.values()))
            request = request.referring_to(found)
        if request.previous is not None:
            try:
                stored = await self._found(project, request.previous)
            except ResponseNotFound as error:
                raise PreviousResponseNotFound(request.previous) from error
            request = request.after(stored.items)
        return Conversation(request, project, self._store)

    async def show(self, exchange: Exchange, response_id: str) -> None:
        project = await self._project(exchange)
        if b"stream=true" in exchange.target.partition(b"?")[2].lower().split(b"&"):
            raise NotOffered(
                "The stream of a response that is kept can't be had again. Ask for it without `stream`.",
                param="stream",
            )
        stored = await self._found(project, response_id)
        exchange.answer(200, JSON + identity_of(exchange), bytes(stored.response))

    async def forget(self, exchange: Exchange, response_id: str) -> None:
        project = await self._project(exchange)
        await self._found(project, response_id)
        await self._store.forget(project, response_id)
        body = b'{"id":%b,"object":"response","deleted":true}' % msgspec.json.encode(response_id)
        exchange.answer(200, JSON + identity_of(exchange), body)

    async def _project(self, exchange: Exchange) -> str:
        credentials = self._addresses.credentials(exchange, bearer_token(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)
        return caller.project_id

    async def _found(self, project: str, response_id: str) -> Stored:
        stored = None
        if len(response_id) <= RESPONSE_ID_CHARACTERS_MAX:
            stored = await self._store.find(project, response_id)
        if stored is None:
            raise ResponseNotFound(response_id)
        return stored
