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
from headrace_gateway.responses.store import Owner, ResponseStore, Stored


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request with what it goes on from, and where its answer is kept."""

    request: ResponsesRequest
    owner: Owner
    store: ResponseStore
    stores: bool

    async def keep(self) -> None:
        """What was answered, if it is to be kept and there was an answer."""
        request, final = self.request, self.request.final
        if self.stores and final.id:
            items = [*request.items, *final.output]
            stored = Stored(response=final.body, items=items)
            await self.store.keep(
                self.owner, final.id, stored, previous=request.previous, output=final.output
            )


class Responses:
    def __init__(self, meter: Meter, store: ResponseStore, addresses: ClientAddresses) -> None:
        self._meter = meter
        self._store = store
        self._addresses = addresses

    @property
    def lost(self) -> int:
        return self._store.lost

    async def conversation(self, request: ResponsesRequest, caller: Caller, *, batched: bool) -> Conversation:
        """Raises `PreviousResponseNotFound` and `ItemNotFound`.

        What a batch answers is in its file, and would drive out the conversations that go on: it is kept where its line
        says so.
        """
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
        stores = not batched if request.stores is None else request.stores
        return Conversation(request, Owner(caller.org, project), self._store, stores)

    async def show(self, exchange: Exchange, response_id: str) -> None:
        caller = await self._caller(exchange)
        if b"stream=true" in exchange.target.partition(b"?")[2].lower().split(b"&"):
            raise NotOffered(
                "The stream of a response that is kept can't be had again. Ask for it without `stream`.",
                param="stream",
            )
        stored = await self._found(caller.project_id, response_id)
        exchange.answer(200, JSON + identity_of(exchange), bytes(stored.response))

    async def forget(self, exchange: Exchange, response_id: str) -> None:
        caller = await self._caller(exchange)
        await self._found(caller.project_id, response_id)
        await self._store.forget(Owner(caller.org, caller.project_id), response_id)
        body = b'{"id":%b,"object":"response","deleted":true}' % msgspec.json.encode(response_id)
        exchange.answer(200, JSON + identity_of(exchange), body)

    async def _caller(self, exchange: Exchange) -> Caller:
        credentials = self._addresses.credentials(exchange, bearer_token(exchange))
        return await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)

    async def _found(self, project: str, response_id: str) -> Stored:
        stored = None
        if len(response_id) <= RESPONSE_ID_CHARACTERS_MAX:
            stored = await self._store.find(project, response_id)
        if stored is None:
            raise ResponseNotFound(response_id)
        return stored
