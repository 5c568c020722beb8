"""A member: somebody, or somebody's tool, with a role and tokens of its own."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace_billing.errors import BillingError
from headrace_billing.members.permission import Role, outranked_by

SECRET_PREFIX = "hrs-"  # noqa: S105 - what every secret begins with, no secret
SECRET_BYTES = 32
# Within a year whoever left unnoticed is locked out.
TOKEN_LIFE_MAX = timedelta(days=366)
TOKENS_MAX = 20
"""Alive at once, of one member."""


class RoleTooHigh(BillingError):
    """Nobody hands out, changes or ends what stands above."""

    code = "role_too_high"

    def __init__(self, role: Role, other: Role) -> None:
        super().__init__(f"The role `{role}` has no say over `{other}`: have somebody of that role do it.")


class TokenLifeTooLong(BillingError):
    """A token must end some day."""

    code = "token_life_too_long"

    def __init__(self) -> None:
        super().__init__(f"expires_at: a token lasts {TOKEN_LIFE_MAX.days} days at most.")


class TooManyTokens(BillingError):
    """More than one member can have use for."""

    code = "too_many_tokens"

    def __init__(self, member: str) -> None:
        super().__init__(f"{member} has {TOKENS_MAX} tokens that are alive: revoke one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    id: str
    org: str | None
    """Null for the seller's staff."""
    name: str
    role: Role


BOOTSTRAP = Member(id="bootstrap", org=None, name="the admin's token", role=Role.OWNER)
"""Whoever holds the token that the installation was made with; however many they are, they count as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    id: str
    member: str
    name: str
    prefix: str
    issued_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


def new_secret() -> str:
    """256 random bits; shown once and kept nowhere."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def check_rank(actor: Role, *others: Role) -> None:
    """Raises `RoleTooHigh` where one of the others stands above the actor."""
    for other in others:
        if outranked_by(actor, other):
            raise RoleTooHigh(actor, other)
