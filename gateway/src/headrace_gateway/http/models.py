"""`GET /v1/models` and `GET /v1/models/{id}`: what the key may name."""

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_gateway.call import Meter
from headrace_gateway.errors import ModelNotFound
from headrace_gateway.http.authorization import bearer_token
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.routing.deployments import DeploymentsFile

JSON = [("content-type", "application/json")]


class Model(msgspec.Struct):
    id: str
    created: int
    owned_by: str
    context_length: int
    object: str = "model"


class ModelList(msgspec.Struct):
    data: list[Model]
    object: str = "list"


class Models:
    def __init__(self, meter: Meter, deployments: DeploymentsFile) -> None:
        self._meter = meter
        self._deployments = deployments

    async def every(self, exchange: Exchange) -> None:
        deployments = await self._allowed(exchange)
        exchange.answer(
            200, JSON, msgspec.json.encode(ModelList(data=[_model(each) for each in deployments]))
        )

    async def one(self, exchange: Exchange, name: str) -> None:
        deployments = await self._allowed(exchange)
        found = self._deployments.current.for_model(name)
        if not found or found[0].model not in {each.model for each in deployments}:
            raise ModelNotFound(name)
        exchange.answer(200, JSON, msgspec.json.encode(_model(found[0])))

    async def _allowed(self, exchange: Exchange) -> list[Deployment]:
        allowed = await self._meter.models(bearer_token(exchange))
        return self._deployments.current.models(allowed)


def _model(deployment: Deployment) -> Model:
    return Model(
        id=deployment.model,
        created=deployment.released_at,
        owned_by=deployment.owned_by,
        context_length=deployment.context_tokens,
    )
