"""The bearer token and the other headers by which a client says who it is and what it works on."""

import re
from collections.abc import Iterable

from headrace_gateway.errors import InvalidRequest, KeyMissing, Unauthenticated
from headrace_gateway.http.exchange import Exchange

TOKEN_MAX = 512
"""Longer than any key of ours; what is longer is not looked up."""

# Ids of sessions, tasks and attempts go into events and log lines as they are.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,127}", re.ASCII)


def bearer_token(exchange: Exchange) -> str:
    scheme, _, token = (exchange.header("authorization") or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise KeyMissing("Send your API key as `Authorization: Bearer <key>`.")
    if len(token) > TOKEN_MAX:
        raise Unauthenticated("This is no API key.")
    return token


def api_key(exchange: Exchange) -> str:
    """As Anthropic's clients send it: in a header of its own, or as a bearer token."""
    key = (exchange.header("x-api-key") or "").strip()
    if len(key) > TOKEN_MAX:
        raise Unauthenticated("This is no API key.")
    if key:
        return key
    try:
        return bearer_token(exchange)
    except KeyMissing:
        raise KeyMissing(
            "Send your API key as `x-api-key: <key>` or `Authorization: Bearer <key>`."
        ) from None


def id_header(exchange: Exchange, name: str) -> str | None:
    value = exchange.header(name.lower())
    if value is None or value == "":
        return None
    if not _ID.fullmatch(value):
        raise InvalidRequest(f"{name} must be 1 to 128 letters, digits or any of ._:/@+=-", param=name)
    return value


RELAYED_CHARACTERS_MAX = 1024
"""Of a header that the engine gets too; what is longer is no version and no list of features."""


def relayed_lines(exchange: Exchange, names: Iterable[str]) -> bytes:
    """Header lines for the engine: those of `names` that the client sent."""
    lines = b""
    for name in names:
        value = exchange.header(name)
        if (
            value is not None
            and value.isprintable()
            and value.isascii()
            and len(value) <= RELAYED_CHARACTERS_MAX
        ):
            lines += f"{name}: {value}\r\n".encode()
    return lines
