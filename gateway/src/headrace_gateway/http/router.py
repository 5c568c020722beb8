"""Paths to handlers, and whatever goes wrong to an answer: the application that the server calls."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import structlog

from headrace_gateway.errors import GatewayError
from headrace_gateway.http import batches, openapi
from headrace_gateway.http.batches import Batches
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.inference import Inference
from headrace_gateway.http.interruption import Reason
from headrace_gateway.http.models import JSON, Models
from headrace_gateway.http.problems import (
    InternalError,
    MethodNotAllowed,
    PathUnknown,
    ShuttingDown,
)
from headrace_gateway.http.responses import Responses
from headrace_gateway.http.shapes import ANTHROPIC_ROOTS, ZAI_ROOTS, refusal_headers, shape_of
from headrace_gateway.http.signed_tokens import SignedTokens
from headrace_gateway.http.token_counts import MESSAGE_TOKENS, ZAI_CODING_TOKENS, ZAI_TOKENS, TokenCounts
from headrace_gateway.http.trace import trace_of_refused
from headrace_gateway.http.wire import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    TRANSCRIPTIONS,
    ZAI_CHAT,
    ZAI_CODING_CHAT,
    ZAI_TRANSCRIPTIONS,
)

log = structlog.get_logger()

Handler = Callable[[Exchange], Awaitable[None]]

RESPONSE_PATH = "/v1/responses/"
NO_RESPONSES = {
    "input_tokens": "`POST /v1/messages/count_tokens` counts the tokens of a prompt, for free.",
    "compact": "Send a shorter conversation as `input`.",
}
"""What OpenAI has at paths that look like a response's."""
MODELS_PATHS = (
    *(f"{root}/v1/models" for root in ANTHROPIC_ROOTS),
    *(f"{root}/models" for root in ZAI_ROOTS),
)


class Gateway:
    """What the server calls with every exchange."""

    def __init__(
        self,
        inference: Inference,
        counts: TokenCounts,
        models: Models,
        *,
        responses: Responses,
        batches: Batches,
        signed: SignedTokens,
        not_admitting: Callable[[], str | None],
    ) -> None:
        self._inference = inference
        self._requests = inference.requests
        self._models = models
        self._responses = responses
        self._batches = batches
        self._signed = signed
        self._not_admitting = not_admitting
        self._document = openapi.document()
        self._has_admitted = False
        self.draining = False
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", inference.at(CHAT)),
            "/v1/completions": ("POST", inference.at(COMPLETIONS)),
            "/v1/responses": ("POST", inference.at(RESPONSES)),
            "/v1/embeddings": ("POST", inference.at(EMBEDDINGS)),
            "/v1/audio/transcriptions": ("POST", inference.at(TRANSCRIPTIONS)),
            "/v1/openapi.json": ("GET", self._described),
            "/healthz": ("GET", self._healthy),
            "/readyz": ("GET", self._ready),
        }
        for root in ANTHROPIC_ROOTS:
            self._routes[f"{root}/v1/models"] = ("GET", models.every)
            self._routes[f"{root}/v1/messages"] = ("POST", inference.at(MESSAGES))
            self._routes[f"{root}/v1/messages/count_tokens"] = ("POST", counts.at(MESSAGE_TOKENS))
        below = ((ZAI_CHAT, ZAI_TOKENS), (ZAI_CODING_CHAT, ZAI_CODING_TOKENS))
        for root, (wire, tokens) in zip(ZAI_ROOTS, below, strict=True):
            self._routes[f"{root}/chat/completions"] = ("POST", signed.taken_by(inference.at(wire)))
            self._routes[f"{root}/tokenizer"] = ("POST", signed.taken_by(counts.at(tokens)))
            self._routes[f"{root}/models"] = ("GET", signed.taken_by(models.every))
        spoken = signed.taken_by(inference.at(ZAI_TRANSCRIPTIONS))
        self._routes[f"{ZAI_ROOTS[0]}/audio/transcriptions"] = ("POST", spoken)

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._route(exchange)
        except GatewayError as error:
            self._refuse(exchange, error)
        except ClientGone:
            pass  # nobody is left to answer, and whatever was admitted has been settled
        except Exception:
            log.exception("request_failed", request=exchange.request_id, path=exchange.path)
            if exchange.answered:
                exchange.break_off()
            else:
                self._refuse(exchange, InternalError())
        finally:
            exchange.end()

    def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        assert not exchange.answered, f"{error.code} after the answer had begun"
        self._requests.told(error.code)
        shape, request_id = shape_of(exchange), exchange.request_id
        status = shape.status(error)
        log.info(
            "request_refused",
            request=request_id,
            trace=trace_of_refused(exchange),
            code=error.code,
            status=status,
        )
        headers = refusal_headers(shape, error) + shape.identity(request_id)
        exchange.answer(status, headers, shape.body(error, request_id))

    @property
    def running(self) -> int:
        return len(self._inference.running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._inference.lines.waiting

    def drain(self) -> None:
        """No longer ready; who waits for a slot is told at once, so that another gateway takes the request."""
        self.draining = True
        self._inference.lines.end(ShuttingDown())

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
        response_id = path.removeprefix(RESPONSE_PATH)
        if response_id and response_id != path and "/" not in response_id:
            await self._response(exchange, response_id)
            return
        if batches.PATHS.fullmatch(path):
            await self._batches(exchange)
            return
        name = _model_at(path)
        if not name:
            raise PathUnknown(f"There is nothing at {path[:200]}.")
        if method != "GET":
            raise MethodNotAllowed("GET")
        one: Handler = partial(self._models.one, name=name)
        await (self._signed.taken_by(one) if path.startswith(ZAI_ROOTS) else one)(exchange)

    async def _response(self, exchange: Exchange, response_id: str) -> None:
        if exchange.method == "GET":
            await self._responses.show(exchange, response_id)
        elif exchange.method == "DELETE":
            await self._responses.forget(exchange, response_id)
        elif response_id in NO_RESPONSES:
            raise PathUnknown(f"`{exchange.path}` is not offered. {NO_RESPONSES[response_id]}")
        else:
            raise MethodNotAllowed("GET, DELETE")

    async def _described(self, exchange: Exchange) -> None:
        exchange.answer(200, JSON, self._document)

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


def _model_at(path: str) -> str:
    """The name that a path of one model has; empty for other paths."""
    for models in MODELS_PATHS:
        if path.startswith(f"{models}/"):
            return path.removeprefix(f"{models}/")
    return ""
