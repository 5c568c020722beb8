"""Who may do what: five roles and what each of them is allowed, the same for the seller's staff and for a customer's.

What a member of an organisation reaches is bounded by `operations` besides: its own organisation, and of that only
what a customer has a say in.
"""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    FINANCE = "finance"
    READ_ONLY = "read-only"


class Permission(StrEnum):
    SELF = "self"
    """To see who one is, and to issue and revoke one's own tokens."""
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_WRITE = "accounts:write"
    KEYS_WRITE = "keys:write"
    USAGE_READ = "usage:read"
    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    PRICES_READ = "prices:read"
    PRICES_WRITE = "prices:write"
    MONEY_READ = "money:read"
    MONEY_WRITE = "money:write"
    ALERTS_WRITE = "alerts:write"
    BOOKS_READ = "books:read"
    BOOKS_WRITE = "books:write"
    APPROVALS_READ = "approvals:read"
    APPROVALS_DECIDE = "approvals:decide"
    BOUNDS_WRITE = "bounds:write"
    """To say from which amount on a second member must agree."""
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    AUDIT_READ = "audit:read"


EVERYTHING = frozenset(Permission)

READS = frozenset(
    {
        Permission.SELF,
        Permission.ACCOUNTS_READ,
        Permission.USAGE_READ,
        Permission.TASKS_READ,
        Permission.PRICES_READ,
        Permission.MONEY_READ,
        Permission.BOOKS_READ,
        Permission.APPROVALS_READ,
        Permission.WEBHOOKS_READ,
        Permission.MEMBERS_READ,
    }
)

ALLOWED: Mapping[Role, frozenset[Permission]] = {
    Role.OWNER: EVERYTHING,
    Role.ADMIN: EVERYTHING - {Permission.BOUNDS_WRITE},
    Role.DEVELOPER: frozenset(
        {
            Permission.SELF,
            Permission.ACCOUNTS_READ,
            Permission.KEYS_WRITE,
            Permission.USAGE_READ,
            Permission.TASKS_READ,
            Permission.TASKS_WRITE,
            Permission.PRICES_READ,
            Permission.WEBHOOKS_READ,
            Permission.WEBHOOKS_WRITE,
            Permission.MEMBERS_READ,
        }
    ),
    Role.FINANCE: READS
    | {
        Permission.MONEY_WRITE,
        Permission.ALERTS_WRITE,
        Permission.BOOKS_WRITE,
        Permission.PRICES_WRITE,
        Permission.APPROVALS_DECIDE,
        Permission.AUDIT_READ,
    },
    Role.READ_ONLY: READS,
}

RANKS: Mapping[Role, int] = {Role.OWNER: 2, Role.ADMIN: 1}
"""Who may hand out, change and end which roles; a role that is not named has the rank 0."""


def allows(role: Role, permission: Permission) -> bool:
    return permission in ALLOWED[role]


def outranked_by(role: Role, other: Role) -> bool:
    """Whether `other` stands above `role`, and so is out of its hands."""
    return RANKS.get(role, 0) < RANKS.get(other, 0)
