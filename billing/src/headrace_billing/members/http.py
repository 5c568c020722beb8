"""Routes for members: the seller's staff, and the people and tools of an organisation."""

from fastapi import APIRouter
from typing_extensions import TypedDict

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Listed, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly, MemberOf
from headrace_billing.ids import new_id
from headrace_billing.members import store
from headrace_billing.members.member import Member, check_rank
from headrace_billing.members.operations import OPERATIONS, Operation, Reach
from headrace_billing.members.permission import Role, allows
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["members"], dependencies=[AdminOnly], route_class=Answering)


class MemberDocument(TypedDict):
    id: str
    organization: str | None
    name: str
    role: Role


class OneselfDocument(MemberDocument):
    operations: list[str]


class NewMember(Body):
    organization: Id | None = None
    """Null makes one of the seller's staff."""
    name: Name
    role: Role


class MemberChange(Body):
    role: Role


@router.get("/v1/me")
async def show_me(caller: MemberOf) -> OneselfDocument:
    """Who the token stands for, and which operations it may ask for."""
    reaches = set(Reach) if caller.member.org is None else {Reach.NAMED, Reach.OWN}
    return {
        **member_document(caller.member),
        "operations": [
            name
            for name, operation in OPERATIONS.items()
            if isinstance(operation, Operation)
            and operation.reach in reaches
            and allows(caller.member.role, operation.permission)
        ],
    }


@router.post("/v1/members", status_code=201)
async def add_member(body: NewMember, caller: MemberOf, parts: PartsOf) -> MemberDocument:
    """It can do nothing before a token is issued to it."""
    check_rank(caller.member.role, body.role)
    at = parts.now()
    member = Member(id=new_id("mem", at), org=body.organization, name=body.name, role=body.role)
    async with parts.database.begin() as session:
        if member.org is not None:
            await accounts.organization(session, member.org)
        await store.add(session, member, at=at)
    return member_document(member)


@router.get("/v1/members")
async def list_members(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[MemberDocument]:
    """Of an organisation, or the seller's staff where none is named."""
    async with parts.database.begin() as session:
        found = await store.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([member_document(one) for one in found], page)


@router.patch("/v1/members/{member_id}")
async def change_member(
    member_id: Id, body: MemberChange, caller: MemberOf, parts: PartsOf
) -> MemberDocument:
    """Holds from the next request on."""
    async with parts.database.begin() as session:
        member = await store.lock(session, member_id)
        check_rank(caller.member.role, member.role, body.role)
        await store.set_role(session, member_id, body.role)
        changed = await store.lock(session, member_id)
    return member_document(changed)


@router.post("/v1/members/{member_id}/remove")
async def remove_member(member_id: Id, caller: MemberOf, parts: PartsOf) -> MemberDocument:
    """Its tokens end with it. What it did stays told."""
    async with parts.database.begin() as session:
        member = await store.lock(session, member_id)
        check_rank(caller.member.role, member.role)
        await store.remove(session, member_id, at=parts.now())
    return member_document(member)


def member_document(member: Member) -> MemberDocument:
    return {"id": member.id, "organization": member.org, "name": member.name, "role": member.role}
