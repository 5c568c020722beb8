"""What billing sends a batch's requests to a gateway with: a token that stands for a key whose secret nobody has any more.

What must stay true: a token is good for one key, until it expires, and only with the seal that billing and the
gateways can make; a key that is revoked takes its tokens with it, as they lead to its record and nowhere else.
"""

import hashlib
import hmac

PREFIX = "hrb-"
"""No key begins so."""

SECONDS_MAX = 3600
"""From making to expiry: longer than a request waits for its turn and runs."""

ANSWERS_KEPT_SECONDS = 900
"""For so long a gateway keeps its answer to a batch's request: others take the place of a worker that died sooner."""


class TokenInvalid(ValueError):
    """Not made here, or expired."""


def batch_token(key_sha256: str, secret: str, *, expires_at: int) -> str:
    """`key_sha256`: of the key's secret, in hexadecimal. `secret`: the ingest token. `expires_at`: seconds of the epoch."""
    assert len(key_sha256) == 64, key_sha256
    signed = f"{PREFIX}{key_sha256}-{expires_at}"
    return f"{signed}-{_seal(signed, secret)}"


def key_behind(token: str, secret: str, *, now: float) -> str:
    """The SHA-256 of the secret of the key that it stands for. Raises `TokenInvalid`."""
    signed, _, seal = token.rpartition("-")
    if not hmac.compare_digest(seal.encode(), _seal(signed, secret).encode()):
        raise TokenInvalid("its seal is not ours")
    key_sha256, _, expires_at = signed.removeprefix(PREFIX).partition("-")
    if not now < int(expires_at) <= now + SECONDS_MAX:
        raise TokenInvalid("it has expired")
    return key_sha256


def _seal(signed: str, secret: str) -> str:
    return hmac.digest(secret.encode(), b"headrace batch token\0" + signed.encode(), hashlib.sha256).hex()
