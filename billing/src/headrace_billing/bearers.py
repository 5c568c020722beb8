"""Who a bearer token stands for: the seller's staff, a member of an organisation, or the holder of an API key."""

import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from headrace_billing.accounts import store
from headrace_billing.accounts.key import SECRET_PREFIX, secret_sha256, shown_prefix
from headrace_billing.errors import IpNotAllowed, ScopeMissing, Unauthenticated
from headrace_billing.members import store as members
from headrace_billing.members.member import BOOTSTRAP, Member
from headrace_billing.members.member import SECRET_PREFIX as MEMBER_PREFIX
from headrace_billing.parts import Parts
from headrace_contracts import batch_tokens
from headrace_contracts.access import KeyScope
from headrace_contracts.networks import Address, client_address, hold


@dataclass(frozen=True, slots=True)
class Admin:
    """The seller's own staff or tools."""

    member: Member = BOOTSTRAP
    token_prefix: str = ""
    token_issued_by: str = ""


@dataclass(frozen=True, slots=True)
class OrgMember:
    """Somebody of an organisation, or its tool."""

    member: Member
    org: str
    token_prefix: str
    token_issued_by: str


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
    prefix: str = ""

    def require(self, scope: KeyScope) -> None:
        """Raises `ScopeMissing`."""
        if self.scopes is not None and scope not in self.scopes:
            raise ScopeMissing(scope)


Caller = Admin | OrgMember | Customer


async def caller_of(request: Request, parts: Parts) -> Caller:
    """Raises `Unauthenticated`, `IpNotAllowed`."""
    token = bearer(request)
    if hmac.compare_digest(token.encode(), parts.admin_token.encode()):
        return Admin()
    if token.startswith(MEMBER_PREFIX):
        async with parts.database.begin() as session:
            found = await members.bearer_of_secret(session, token, at=parts.now())
        if found is not None:
            told = (found.token_prefix, found.token_issued_by)
            org = found.member.org
            return Admin(found.member, *told) if org is None else OrgMember(found.member, org, *told)
    elif token.startswith(SECRET_PREFIX):
        owner = await _owner(parts, secret_sha256(token))
        _check_network(request, parts, owner)
        return _customer(owner, shown_prefix(token))
    elif token.startswith(batch_tokens.PREFIX):
        # From a gateway, which has looked at where the key's holder speaks from.
        try:
            behind = batch_tokens.key_behind(token, parts.ingest_token, now=time.time())
        except batch_tokens.TokenInvalid as error:
            raise Unauthenticated from error
        return _customer(await _owner(parts, behind), "")
    raise Unauthenticated


async def _owner(parts: Parts, key_sha256: str) -> store.KeyOwner:
    async with parts.database.begin() as session:
        owner = await store.owner_of_hash(session, key_sha256, at=parts.now())
    if owner is None:
        raise Unauthenticated
    return owner


def _customer(owner: store.KeyOwner, prefix: str) -> Customer:
    return Customer(owner.key, owner.project, owner.org, owner.wallet, owner.currency, owner.scopes, prefix)


def _check_network(request: Request, parts: Parts, owner: store.KeyOwner) -> None:
    address = address_of(request, parts)
    for cidrs in (owner.key_cidrs, owner.project_cidrs):
        if cidrs is not None and not hold(cidrs, address):
            raise IpNotAllowed(address)


def address_of(request: Request, parts: Parts) -> Address | None:
    """Where the request came from, as far as trusted proxies tell."""
    peer = "" if request.client is None else request.client.host
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    return client_address(peer, forwarded, parts.trusted_proxies)


def bearer(request: Request) -> str:
    """Raises `Unauthenticated`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token.strip()
