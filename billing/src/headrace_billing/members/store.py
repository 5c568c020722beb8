"""Members and their tokens in Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.key import secret_sha256
from headrace_billing.errors import NotFound
from headrace_billing.members.member import TOKENS_MAX, Member, Token, TooManyTokens
from headrace_billing.members.permission import Role


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token a request came with."""

    member: Member
    token_prefix: str
    token_issued_by: str


async def bearer_of_secret(session: AsyncSession, secret: str, *, at: datetime) -> Bearer | None:
    """Null for a token that is unknown, revoked, expired or a removed member's."""
    found = await session.execute(SELECT_BEARER, {"hash": secret_sha256(secret), "at": at})
    row = found.mappings().first()
    return None if row is None else Bearer(_member(row), row["prefix"], row["issued_by"])


async def add(session: AsyncSession, member: Member, *, at: datetime) -> None:
    await session.execute(
        INSERT, {"id": member.id, "org": member.org, "name": member.name, "role": member.role, "at": at}
    )


async def lock(session: AsyncSession, member_id: str) -> Member:
    """Raises `NotFound`, for one that was removed too."""
    row = (await session.execute(LOCK, {"id": member_id})).mappings().first()
    if row is None:
        raise NotFound("member", member_id)
    return _member(row)


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> Sequence[Member]:
    """The members of an organisation; of the seller where none is named."""
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return [_member(row) for row in rows.mappings()]


async def set_role(session: AsyncSession, member_id: str, role: Role) -> None:
    await session.execute(SET_ROLE, {"id": member_id, "role": role})


async def remove(session: AsyncSession, member_id: str, *, at: datetime) -> None:
    """Its tokens end with it."""
    await session.execute(REMOVE, {"id": member_id, "at": at})
    await session.execute(REVOKE_ALL, {"id": member_id, "at": at})


async def add_token(session: AsyncSession, token: Token, *, secret: str) -> None:
    """Raises `TooManyTokens`. The member's row must be locked."""
    alive = await session.execute(COUNT_ALIVE, {"member": token.member, "at": token.created_at})
    if alive.scalar_one() >= TOKENS_MAX:
        raise TooManyTokens(token.member)
    await session.execute(
        INSERT_TOKEN,
        {
            "id": token.id,
            "member": token.member,
            "name": token.name,
            "secret_sha256": secret_sha256(secret),
            "prefix": token.prefix,
            "issued_by": token.issued_by,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        },
    )


async def token(session: AsyncSession, token_id: str) -> Token:
    row = (await session.execute(SELECT_TOKEN, {"id": token_id})).mappings().first()
    if row is None:
        raise NotFound("member token", token_id)
    return Token(**row)


async def tokens(session: AsyncSession, member_id: str, *, after: str, limit: int) -> Sequence[Token]:
    rows = await session.execute(SELECT_TOKENS, {"member": member_id, "after": after, "limit": limit})
    return [Token(**row) for row in rows.mappings()]


async def revoke_token(session: AsyncSession, token_id: str, *, at: datetime) -> Token:
    """One that is revoked already stays as it is."""
    await session.execute(REVOKE, {"id": token_id, "at": at})
    return await token(session, token_id)


def _member(row: RowMapping) -> Member:
    return Member(id=row["member"], org=row["org"], name=row["member_name"], role=Role(row["role"]))


MEMBER = "m.id AS member, m.org, m.name AS member_name, m.role"
TOKEN = "id, member, name, prefix, issued_by, created_at, expires_at, revoked_at"  # noqa: S105 - columns

SELECT_BEARER = text(f"""
    SELECT {MEMBER}, t.prefix, t.issued_by FROM member_tokens t JOIN members m ON m.id = t.member
    WHERE t.secret_sha256 = :hash AND t.revoked_at IS NULL AND t.expires_at > :at AND m.removed_at IS NULL
""")  # noqa: S608

INSERT = text("""
    INSERT INTO members (id, org, name, role, created_at) VALUES (:id, :org, :name, :role, :at)
""")

LOCK = text(f"SELECT {MEMBER} FROM members m WHERE m.id = :id AND m.removed_at IS NULL FOR UPDATE")  # noqa: S608

SELECT_PAGE = text(f"""
    SELECT {MEMBER} FROM members m
    WHERE m.id > :after AND m.org IS NOT DISTINCT FROM CAST(:org AS text) AND m.removed_at IS NULL
    ORDER BY m.id LIMIT :limit
""")  # noqa: S608

SET_ROLE = text("UPDATE members SET role = :role WHERE id = :id")
REMOVE = text("UPDATE members SET removed_at = :at WHERE id = :id")
REVOKE_ALL = text("UPDATE member_tokens SET revoked_at = :at WHERE member = :id AND revoked_at IS NULL")

COUNT_ALIVE = text("""
    SELECT count(*) FROM member_tokens WHERE member = :member AND revoked_at IS NULL AND expires_at > :at
""")

INSERT_TOKEN = text("""
    INSERT INTO member_tokens (id, member, name, secret_sha256, prefix, issued_by, created_at, expires_at)
    VALUES (:id, :member, :name, :secret_sha256, :prefix, :issued_by, :created_at, :expires_at)
""")

SELECT_TOKEN = text(f"SELECT {TOKEN} FROM member_tokens WHERE id = :id")  # noqa: S608

SELECT_TOKENS = text(f"""
    SELECT {TOKEN} FROM member_tokens WHERE member = :member AND id > :after ORDER BY id LIMIT :limit
""")  # noqa: S608

REVOKE = text("UPDATE member_tokens SET revoked_at = coalesce(revoked_at, :at) WHERE id = :id")
