"""Reading a request's body within its bounds."""

from typing import Protocol

from headrace_gateway.errors import InvalidRequest
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.problems import BodyTooSlow, EncodingUnknown


class BodyBounds(Protocol):
    @property
    def body_bytes_max(self) -> int: ...
    @property
    def audio_body_bytes_max(self) -> int:
        """Where recordings are sent."""

    @property
    def body_timeout_seconds(self) -> float:
        """Of a body of `body_bytes_max`; larger ones may take as much longer."""


async def read_body(exchange: Exchange, bounds: BodyBounds) -> bytes:
    if not is_json(exchange):
        raise InvalidRequest("The body must be sent as `Content-Type: application/json`.")
    return await arrived(
        exchange, bytes_max=bounds.body_bytes_max, timeout_seconds=bounds.body_timeout_seconds
    )


def is_json(exchange: Exchange) -> bool:
    media_type = (exchange.header("content-type") or "application/json").partition(";")[0]
    return media_type.strip().lower() == "application/json"


def check_encoding(exchange: Exchange) -> None:
    """Raises `EncodingUnknown`: nothing is unpacked here, as a few bytes may become any number."""
    encoding = exchange.header("content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise EncodingUnknown(encoding)


async def arrived(exchange: Exchange, *, bytes_max: int, timeout_seconds: float) -> bytes:
    """All of it."""
    check_encoding(exchange)
    try:
        return await exchange.body(bytes_max=bytes_max, timeout_seconds=timeout_seconds)
    except TimeoutError:
        raise BodyTooSlow("The request's body did not arrive in time.") from None
