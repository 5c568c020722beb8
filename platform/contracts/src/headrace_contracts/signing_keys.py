"""API keys that can sign: `<lookup>.<seal>`, where the seal follows from the lookup and a secret of the installation.

Z.ai's older clients never send their key: they send a token that they have signed with the second half of it.
A key that is only known by its hash can't check a signature; one whose second half can be made again can. So
billing makes such keys, gateways make their seals again, and nothing more is stored of them than of any key.
"""

import base64
import hashlib
import hmac

LOOKUP_PREFIX = "hr-~"
"""No other secret begins so: `~` is in none of them."""

LOOKUP_CHARACTERS_MAX = 64

SIGNING_SECRET_BYTES_MIN = 32


def is_signing_secret(text: str) -> bool:
    """Whether it is enough bytes, as hex."""
    try:
        return len(bytes.fromhex(text)) >= SIGNING_SECRET_BYTES_MIN
    except ValueError:
        return False


def secret_of(lookup: str, signing_secret: bytes) -> str:
    """The whole API key that has this lookup."""
    return f"{lookup}.{seal_of(lookup, signing_secret)}"


def seal_of(lookup: str, signing_secret: bytes) -> str:
    assert len(signing_secret) >= SIGNING_SECRET_BYTES_MIN, "settings see to that"
    digest = hmac.digest(signing_secret, b"headrace signing key\0" + lookup.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
