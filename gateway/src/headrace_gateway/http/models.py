"""`GET /v1/models` and `GET /v1/models/{id}`: what the key may name, as OpenAI's clients read it or as Anthropic's do."""

from collections.abc import Container, Sequence
from datetime import UTC, datetime

import msgspec

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment, Task
from headrace_gateway.call import Caller, Meter
from headrace_gateway.errors import ModelNotFound
from headrace_gateway.http.authorization import api_key
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.shapes import ANTHROPIC, identity_of, shape_of
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


class AnthropicModel(msgspec.Struct):
    id: str
    display_name: str
    created_at: datetime
    type: str = "model"


class AnthropicModelList(msgspec.Struct):
    """All of them are on one page, whatever page is asked for."""

    data: list[AnthropicModel]
    first_id: str | None
    last_id: str | None
    has_more: bool = False


class Models:
    def __init__(self, meter: Meter, deployments: DeploymentsFile, addresses: ClientAddresses) -> None:
        self._meter = meter
        self._deployments = deployments
        self._addresses = addresses

    async def every(self, exchange: Exchange) -> None:
        caller, priced = await self._caller(exchange)
        known = open_to(self._deployments.current.models(caller.org), caller.project_id)
        models = [each for each in known if each.model in priced and caller.may_name(each)]
        in_shape = _anthropic_list if shape_of(exchange) is ANTHROPIC else _list
        exchange.answer(200, JSON + identity_of(exchange), msgspec.json.encode(in_shape(models)))

    async def one(self, exchange: Exchange, name: str) -> None:
        caller, priced = await self._caller(exchange)
        found = open_to(self._deployments.current.for_model(name, caller.org), caller.project_id)
        if not found or found[0].model not in priced or not caller.may_name(found[0]):
            raise ModelNotFound(name)
        in_shape = _anthropic_model if shape_of(exchange) is ANTHROPIC else _model
        exchange.answer(200, JSON + identity_of(exchange), msgspec.json.encode(in_shape(found[0])))

    async def _caller(self, exchange: Exchange) -> tuple[Caller, Container[str]]:
        """Who asks, and the models that have a price there: others could not be used."""
        credentials = self._addresses.credentials(exchange, api_key(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.MODELS_READ, anew=True)
        return caller, await self._meter.priced_models(credentials)


def _list(deployments: Sequence[Deployment]) -> ModelList:
    return ModelList(data=[_model(each) for each in deployments])


def _anthropic_list(deployments: Sequence[Deployment]) -> AnthropicModelList:
    models = [_anthropic_model(each) for each in deployments]
    return AnthropicModelList(
        data=models,
        first_id=models[0].id if models else None,
        last_id=models[-1].id if models else None,
    )


def _anthropic_model(deployment: Deployment) -> AnthropicModel:
    return AnthropicModel(
        id=deployment.model,
        display_name=deployment.model,
        created_at=datetime.fromtimestamp(deployment.released_at, UTC),
    )


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
