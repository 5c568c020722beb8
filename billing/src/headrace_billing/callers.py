"""Who calls: the seller's admin, a customer by API key, or a gateway or engine; told by the bearer token alone."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from headrace_billing.accounts import store
from headrace_billing.accounts.key import SECRET_PREFIX
from headrace_billing.errors import (
    Forbidden,
    IdempotencyKeyMissing,
    InvalidRequest,
    IpNotAllowed,
    ScopeMissing,
    Unauthenticated,
)
from headrace_billing.parts import Parts, PartsOf
from headrace_contracts.access import KeyScope
from headrace_contracts.networks import client_address, hold

IDEMPOTENCY_KEY_CHARACTERS_MAX = 255


@dataclass(frozen=True, slots=True)
class Admin:
    """The seller's own staff or tools."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Whoever holds an API key."""

    key: str
    project: str
    org: str
    wallet: str
    currency: str
    scopes: Sequence[str] | None
    """What the key may be used for; null means everything."""

    def require(self, scope: KeyScope) -> None:
        """Raises `ScopeMissing`."""
        if self.scopes is not None and scope not in self.scopes:
            raise ScopeMissing(scope)


async def _caller(request: Request, parts: PartsOf) -> Admin | Customer:
    token = bearer(request)
    if hmac.compare_digest(token.encode(), parts.admin_token.encode()):
        return Admin()
    if token.startswith(SECRET_PREFIX):
        async with parts.database.begin() as session:
            owner = await store.owner_of_secret(session, token, at=parts.now())
        if owner is not None:
            _check_network(request, parts, owner)
            return Customer(owner.key, owner.project, owner.org, owner.wallet, owner.currency, owner.scopes)
    raise Unauthenticated


def _check_network(request: Request, parts: Parts, owner: store.KeyOwner) -> None:
    peer = "" if request.client is None else request.client.host
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    address = client_address(peer, forwarded, parts.trusted_proxies)
    for cidrs in (owner.key_cidrs, owner.project_cidrs):
        if cidrs is not None and not hold(cidrs, address):
            raise IpNotAllowed(address)


async def _admin(caller: Annotated[Admin | Customer, Depends(_caller)]) -> Admin:
    if not isinstance(caller, Admin):
        raise Forbidden("This needs the admin's token.")
    return caller


async def _machine(request: Request, parts: PartsOf) -> None:
    if not hmac.compare_digest(bearer(request).encode(), parts.ingest_token.encode()):
        raise Unauthenticated


def _idempotency_key(idempotency_key: Annotated[str | None, Header()] = None) -> str:
    if not idempotency_key:
        raise IdempotencyKeyMissing
    if len(idempotency_key) > IDEMPOTENCY_KEY_CHARACTERS_MAX or not idempotency_key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must be at most {IDEMPOTENCY_KEY_CHARACTERS_MAX} printable characters."
        )
    return idempotency_key


def bearer(request: Request) -> str:
    """Raises `Unauthenticated`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token.strip()


CallerOf = Annotated[Admin | Customer, Depends(_caller)]
"""Admin or customer: the route decides what each may do."""

AdminOnly = Depends(_admin)
"""For `dependencies=[AdminOnly]`."""

MachineOnly = Depends(_machine)
"""Gateways and engine replicas, by the ingest token."""

IdempotencyKey = Annotated[str, Depends(_idempotency_key)]
"""Required on every route that moves money."""
