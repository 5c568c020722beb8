"""Paths to handlers, and whatever goes wrong to an answer: the application that the server calls."""

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from headrace_gateway.errors import GatewayError
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.inference import Inference
from headrace_gateway.http.interruption import Reason
from headrace_gateway.http.models import JSON, Models
from headrace_gateway.http.problems import (
    InternalError,
    MethodNotAllowed,
    PathUnknown,
)
from headrace_gateway.http.shapes import refusal_headers, shape_at

log = structlog.get_logger()

Handler = Callable[[Exchange], Awaitable[None]]

MODEL_PATH = "/v1/models/"


class Gateway:
    """What the server calls with every exchange."""

    def __init__(self, inference: Inference, models: Models, not_admitting: Callable[[], str | None]) -> None:
        self._inference = inference
        self._models = models
        self._not_admitting = not_admitting
        self._has_admitted = False
        self.draining = False
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", inference.chat),
            "/v1/completions": ("POST", inference.completions),
            "/v1/messages": ("POST", inference.messages),
            "/v1/messages/count_tokens": ("POST", inference.count_tokens),
            "/v1/models": ("GET", models.every),
            "/healthz": ("GET", self._healthy),
            "/readyz": ("GET", self._ready),
        }

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._route(exchange)
        except GatewayError as error:
            _refuse(exchange, error)
        except ClientGone:
            pass  # nobody is left to answer, and whatever was admitted has been settled
        except Exception:
            log.exception("request_failed", path=exchange.path)
            if exchange.answered:
                exchange.break_off()
            else:
                _refuse(exchange, InternalError())
        finally:
            exchange.end()

    @property
    def running(self) -> int:
        return len(self._inference.running)

    def interrupt(self) -> int:
        """Ends what still runs with an error event; tells how many there were."""
        running = list(self._inference.running)
        for interruption in running:
            interruption.interrupt(Reason.SHUTDOWN)
        return len(running)

    async def _route(self, exchange: Exchange) -> None:
        path, method = exchange.path, exchange.method
        route = self._routes.get(path)
        if route is not None:
            wanted, handler = route
            if method != wanted:
                raise MethodNotAllowed(wanted)
            await handler(exchange)
            return
        name = path.removeprefix(MODEL_PATH)
        if name == path or not name:
            raise PathUnknown(f"There is nothing at {path[:200]}.")
        if method != "GET":
            raise MethodNotAllowed("GET")
        await self._models.one(exchange, name)

    async def _healthy(self, exchange: Exchange) -> None:
        exchange.answer(200, JSON, b'{"status":"ok"}')

    async def _ready(self, exchange: Exchange) -> None:
        """Ready from the first moment that requests can be admitted until SIGTERM.

        A later outage of Valkey is the same for all gateways: taking them out of service one and all would
        turn a refusal that says when to come back into one that says nothing.
        """
        obstacle = self._not_admitting()
        self._has_admitted |= obstacle is None
        if self.draining:
            status, obstacle = 503, "shutting_down"
        else:
            status = 200 if self._has_admitted else 503
        exchange.answer(status, JSON, msgspec.json.encode({"status": obstacle or "ok"}))


def _refuse(exchange: Exchange, error: GatewayError) -> None:
    assert not exchange.answered, f"{error.code} after the answer had begun"
    shape = shape_at(exchange.path)
    exchange.answer(shape.status(error), refusal_headers(shape, error), shape.body(error))
