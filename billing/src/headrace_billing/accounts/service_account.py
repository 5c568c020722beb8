"""A service account: a program of a customer's that owns keys, so that its usage is told apart and all of its keys
end together, whoever made them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headrace_billing.errors import BillingError

KEYS_MAX = 50
"""Active ones of one account; disabling it revokes all of them in one transaction."""


class ServiceAccountStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"  # for good: what it owned is revoked


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    id: str
    project: str
    name: str
    status: ServiceAccountStatus
    created_at: datetime
    disabled_at: datetime | None = None


class ServiceAccountDisabled(BillingError):
    """A disabled service account stays disabled."""

    code = "service_account_disabled"

    def __init__(self, account: str) -> None:
        super().__init__(f"{account} is disabled and can own no more keys: make another service account.")


class ServiceAccountFull(BillingError):
    """It owns as many active keys as one may."""

    code = "service_account_full"

    def __init__(self, account: str) -> None:
        super().__init__(f"{account} has {KEYS_MAX} active keys: revoke one before making another.")
