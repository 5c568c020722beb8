"""Routes for members' tokens: one's own, and those of whoever one has the say over."""

from fastapi import APIRouter
from pydantic import AwareDatetime
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.accounts.key import shown_prefix
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Listed, Name, PageOf, page_of
from headrace_billing.callers import Admin, AdminOnly, MemberOf, OrgMember
from headrace_billing.errors import ExpiryInThePast, RoleMissing
from headrace_billing.ids import new_id
from headrace_billing.members import store
from headrace_billing.members.member import (
    TOKEN_LIFE_MAX,
    Member,
    Token,
    TokenLifeTooLong,
    check_rank,
    new_secret,
)
from headrace_billing.members.permission import Permission, allows
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["members"], dependencies=[AdminOnly], route_class=Answering)


class TokenDocument(TypedDict):
    id: str
    member: str
    name: str
    prefix: str
    issued_by: str
    created_at: str
    expires_at: str
    revoked_at: str | None


class NewTokenDocument(TokenDocument):
    secret: str


class NewToken(Body):
    name: Name
    expires_at: AwareDatetime


@router.post("/v1/members/{member_id}/tokens", status_code=201)
async def issue_member_token(
    member_id: Id, body: NewToken, caller: MemberOf, parts: PartsOf
) -> NewTokenDocument:
    """The answer holds the secret, this once."""
    at, secret = parts.now(), new_secret()
    if body.expires_at <= at:
        raise ExpiryInThePast
    if body.expires_at > at + TOKEN_LIFE_MAX:
        raise TokenLifeTooLong
    token = Token(
        id=new_id("mtk", at),
        member=member_id,
        name=body.name,
        prefix=shown_prefix(secret),
        issued_by=caller.member.id,
        created_at=at,
        expires_at=body.expires_at,
    )
    async with parts.database.begin() as session:
        await _member_in_hand(session, caller, member_id)
        await store.add_token(session, token, secret=secret)
    return {**_document(token), "secret": secret}


@router.get("/v1/members/{member_id}/tokens")
async def list_member_tokens(
    member_id: Id, caller: MemberOf, parts: PartsOf, page: PageOf
) -> Listed[TokenDocument]:
    async with parts.database.begin() as session:
        await _member_in_hand(session, caller, member_id)
        found = await store.tokens(session, member_id, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


@router.post("/v1/member-tokens/{token_id}/revoke")
async def revoke_member_token(token_id: Id, caller: MemberOf, parts: PartsOf) -> TokenDocument:
    """Holds from the next request on."""
    async with parts.database.begin() as session:
        token = await store.token(session, token_id)
        await _member_in_hand(session, caller, token.member)
        revoked = await store.revoke_token(session, token_id, at=parts.now())
    return _document(revoked)


async def _member_in_hand(session: AsyncSession, caller: Admin | OrgMember, member_id: str) -> Member:
    """The member, locked: the caller itself, or one that it has the say over. Raises `RoleMissing`, `RoleTooHigh`."""
    member = await store.lock(session, member_id)
    if caller.member.id != member.id:
        if not allows(caller.member.role, Permission.MEMBERS_WRITE):
            raise RoleMissing(caller.member.role, Permission.MEMBERS_WRITE)
        check_rank(caller.member.role, member.role)
    return member


def _document(token: Token) -> TokenDocument:
    return {
        "id": token.id,
        "member": token.member,
        "name": token.name,
        "prefix": token.prefix,
        "issued_by": token.issued_by,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat(),
        "revoked_at": None if token.revoked_at is None else token.revoked_at.isoformat(),
    }
