"""Members of the seller and of organisations, and what they do with tokens of their own."""

from datetime import timedelta
from typing import Any

from headrace_billing.members.permission import Role
from tests.billing.seller import NOW, Document, Seller

EXPIRES = (NOW + timedelta(days=30)).isoformat()


async def member_of(seller: Seller, role: Role, *, org: str | None = None, name: str = "Ada") -> Document:
    body: dict[str, Any] = {"name": name, "role": role}
    return await seller.post("/v1/members", body if org is None else body | {"organization": org})


async def token_of(issuer: Seller, member: str) -> Document:
    return await issuer.post(f"/v1/members/{member}/tokens", {"name": "laptop", "expires_at": EXPIRES})


async def joined(seller: Seller, role: Role, *, org: str | None = None, name: str = "Ada") -> Seller:
    """The API as a new member of that role sees it."""
    member = await member_of(seller, role, org=org, name=name)
    return Seller(seller.http, (await token_of(seller, member["id"]))["secret"])
