"""An outside meter: something that is no gateway of ours, that counts what customers use, and that the seller trusts.

Its token may report usage and do nothing else. Who can report can bill, so no customer's API key may.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

TOKEN_PREFIX = "hm-"  # noqa: S105 - what every token begins with, no secret
TOKEN_BYTES = 32
# Enough to tell one's tokens apart, and 2^198 too few to guess one.
SHOWN_CHARACTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    id: str
    name: str
    organization: str | None
    """The one whose usage it may report; null means everybody's."""
    prefix: str
    created_at: datetime
    revoked_at: datetime | None = None


def new_token() -> str:
    """256 random bits; shown once and kept nowhere."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def shown_prefix(token: str) -> str:
    return token[:SHOWN_CHARACTERS]
