"""Reading a request's body within its bounds."""

from typing import Protocol

from headrace_gateway.errors import InvalidRequest
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.problems import BodyTooSlow


class BodyBounds(Protocol):
    @property
    def body_bytes_max(self) -> int: ...
    @property
    def body_timeout_seconds(self) -> float: ...


async def read_body(exchange: Exchange, bounds: BodyBounds) -> bytes:
    media_type = (exchange.header("content-type") or "application/json").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise InvalidRequest("The body must be sent as `Content-Type: application/json`.")
    try:
        return await exchange.body(
            bytes_max=bounds.body_bytes_max, timeout_seconds=bounds.body_timeout_seconds
        )
    except TimeoutError:
        raise BodyTooSlow("The request's body did not arrive in time.") from None
