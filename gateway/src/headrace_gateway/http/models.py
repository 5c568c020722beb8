"""`GET /v1/models` and `GET /v1/models/{id}`: what the key may name."""

from collections.abc import Container

import msgspec

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment, Task
from headrace_gateway.call import Caller, Meter
from headrace_gateway.errors import ModelNotFound
from headrace_gateway.http.authorization import bearer_token
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.routing.choice import open_to
from headrace_gateway.routing.deployments import DeploymentsFile

JSON = [("content-type", "application/json")]


class Model(msgspec.Struct):
    id: str
    created: int
    owned_by: str
    context_length: int
    revision: str
    task: Task
    deprecated_at: int | None = None
    sunset_at: int | None = None
    object: str = "model"


class ModelList(msgspec.Struct):
    data: list[Model]
    object: str = "list"


class Models:
    def __init__(self, meter: Meter, deployments: DeploymentsFile, addresses: ClientAddresses) -> None:
        self._meter = meter
        self._deployments = deployments
        self._addresses = addresses

    async def every(self, exchange: Exchange) -> None:
        caller, priced = await self._caller(exchange)
        known = open_to(self._deployments.current.models(caller.org), caller.project_id)
        models = [_model(each) for each in known if each.model in priced and caller.may_name(each)]
        exchange.answer(200, JSON, msgspec.json.encode(ModelList(data=models)))

    async def one(self, exchange: Exchange, name: str) -> None:
        caller, priced = await self._caller(exchange)
        found = open_to(self._deployments.current.for_model(name, caller.org), caller.project_id)
        if not found or found[0].model not in priced or not caller.may_name(found[0]):
            raise ModelNotFound(name)
        exchange.answer(200, JSON, msgspec.json.encode(_model(found[0])))

    async def _caller(self, exchange: Exchange) -> tuple[Caller, Container[str]]:
        """Who asks, and the models that have a price there: others could not be used."""
        credentials = self._addresses.credentials(exchange, bearer_token(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.MODELS_READ, anew=True)
        return caller, await self._meter.priced_models(credentials)


def _model(deployment: Deployment) -> Model:
    return Model(
        id=deployment.model,
        created=deployment.released_at,
        owned_by=deployment.owned_by,
        context_length=deployment.context_tokens,
        revision=deployment.revision,
        task=deployment.task,
        deprecated_at=deployment.deprecated_at,
        sunset_at=deployment.sunset_at,
    )
