"""Z.ai's older clients sign a token with their key instead of sending it; here it becomes the key again.

What must stay true: a token is good only with the seal that belongs to the key it names, and until it expires;
what it is turned into is looked up, and refused, like any other key.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable

import msgspec

from headrace_contracts.signing_keys import LOOKUP_CHARACTERS_MAX, LOOKUP_PREFIX, seal_of, secret_of
from headrace_gateway.errors import KeyExpired, Unauthenticated
from headrace_gateway.http.authorization import TOKEN_MAX, bearer_token
from headrace_gateway.http.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]

BEGINNING = "ey"
"""Of a JSON object in base64; no key of ours begins so."""


class Header(msgspec.Struct):
    alg: str
    sign_type: str


class Claims(msgspec.Struct):
    api_key: str
    exp: int
    """Milliseconds since the Unix epoch, unlike a common JWT's."""


_header = msgspec.json.Decoder(Header).decode
_claims = msgspec.json.Decoder(Claims).decode


class SignedTokens:
    def __init__(self, signing_secret: bytes | None) -> None:
        """`signing_secret`: what billing makes such keys with; null where it makes none."""
        self._signing_secret = signing_secret

    def taken_by(self, handler: Handler) -> Handler:
        """The handler, for clients that sign."""

        async def handle(exchange: Exchange) -> None:
            token = (exchange.header("authorization") or "").partition(" ")[2].strip()
            if token.startswith(BEGINNING) and len(token) <= TOKEN_MAX:
                secret = self.secret_behind(bearer_token(exchange), now_ms=time.time_ns() // 1_000_000)
                exchange.authorize(secret)
            await handler(exchange)

        return handle

    def secret_behind(self, token: str, *, now_ms: int) -> str:
        """The API key that signed it. Raises `Unauthenticated` or `KeyExpired`."""
        if self._signing_secret is None:
            raise Unauthenticated(
                "Signed tokens are not taken here. Send the API key itself as bearer token."
            )
        claims = _verified(token, self._signing_secret)
        if claims.exp <= now_ms:
            raise KeyExpired("The token has expired. Sign a new one; `exp` counts in milliseconds.")
        return secret_of(claims.api_key, self._signing_secret)


def _verified(token: str, signing_secret: bytes) -> Claims:
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    try:
        head, claims = _header(_decoded(header)), _claims(_decoded(payload))
        given = _decoded(signature)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise Unauthenticated("The bearer token is neither an API key nor signed by one.") from None
    if head != Header(alg="HS256", sign_type="SIGN"):
        raise Unauthenticated("Tokens are signed by HS256, with `sign_type` SIGN.")
    if not claims.api_key.startswith(LOOKUP_PREFIX) or len(claims.api_key) > LOOKUP_CHARACTERS_MAX:
        raise Unauthenticated("The key that this token names can't sign. Ask for one that does.")
    seal = seal_of(claims.api_key, signing_secret)
    wanted = hmac.digest(seal.encode(), signed.encode(), hashlib.sha256)
    if not hmac.compare_digest(given, wanted):
        raise Unauthenticated("The token's signature is wrong.")
    return claims


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
