"""Reading a request's body within its bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from headrace_gateway.errors import InvalidRequest
from headrace_gateway.http.exchange import SMALL_BYTES_MAX, Exchange
from headrace_gateway.http.large_bodies import LargeBodies
from headrace_gateway.http.problems import BodyTooSlow, EncodingUnknown

Decoded = TypeVar("Decoded")


class BodyBounds(Protocol):
    @property
    def body_bytes_max(self) -> int: ...
    @property
    def audio_body_bytes_max(self) -> int:
        """Where recordings are sent."""

    @property
    def body_timeout_seconds(self) -> float:
        """Of a small body; of a large one each few megabytes may take as long."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """All that are read here."""

    bounds: BodyBounds
    room: LargeBodies


async def read_body(exchange: Exchange, bodies: Bodies, org: str) -> bytes:
    """`org`: whose room it takes if it is large."""
    if not is_json(exchange):
        raise InvalidRequest("The body must be sent as `Content-Type: application/json`.")
    return await arrived(exchange, bodies, org, bytes_max=bodies.bounds.body_bytes_max)


async def decoded(body: bytes, bodies: Bodies, org: str, decode: Callable[[bytes], Decoded]) -> Decoded:
    """What a body says."""
    if len(body) <= SMALL_BYTES_MAX:
        return decode(body)
    return await bodies.room.read(org, body, decode)


def is_json(exchange: Exchange) -> bool:
    media_type = (exchange.header("content-type") or "application/json").partition(";")[0]
    return media_type.strip().lower() == "application/json"


def check_encoding(exchange: Exchange) -> None:
    """Raises `EncodingUnknown`: nothing is unpacked here, as a few bytes may become any number."""
    encoding = exchange.header("content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise EncodingUnknown(encoding)


async def arrived(exchange: Exchange, bodies: Bodies, org: str, *, bytes_max: int) -> bytes:
    """All of it."""
    check_encoding(exchange)
    try:
        return await exchange.body(
            bytes_max=bytes_max,
            timeout_seconds=bodies.bounds.body_timeout_seconds,
            room=bodies.room,
            org=org,
        )
    except TimeoutError:
        raise BodyTooSlow("The request's body did not arrive in time.") from None
