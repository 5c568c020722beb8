"""Four eyes: what one member asks for, another must agree to before it is done, and it is done once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from headrace_billing.errors import BillingError

# Long enough for a weekend and a holiday; short enough that nobody agrees to what has become something else.
LIFE = timedelta(days=7)


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"  # pending, and nobody agreed in time


class ApproverIsRequester(BillingError):
    """Two eyes are not four."""

    code = "approver_is_requester"

    def __init__(self) -> None:
        super().__init__(
            "Whoever asked for it can't agree to it, nor with a token that whoever asked has issued: "
            "have another member do it."
        )


class ApprovalDecided(BillingError):
    """It was decided before, or nobody decided in time."""

    code = "approval_decided"

    def __init__(self, approval: str, status: ApprovalStatus) -> None:
        super().__init__(f"{approval} is {status} already; ask for it anew.")


class AmountGrown(BillingError):
    """What was agreed to was less than what it would be by now."""

    code = "amount_grown"

    def __init__(self, approval: str) -> None:
        super().__init__(f"It would be more by now than {approval} says: refuse that one, and ask anew.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    operation: str
    org: str
    subject: str
    """What it is about, such as a wallet or an invoice."""
    currency: str
    amount_nanos: int
    request: Mapping[str, Any]
    """As the operation's route took it."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(Wanted):
    id: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    status: ApprovalStatus = ApprovalStatus.PENDING
    decided_by: str | None = None
    decided_at: datetime | None = None
    result: Mapping[str, Any] | None = None

    def at(self, now: datetime) -> ApprovalStatus:
        if self.status is ApprovalStatus.PENDING and now >= self.expires_at:
            return ApprovalStatus.EXPIRED
        return self.status

    def check_agreed(self, *, by: str, token_issued_by: str, at: datetime) -> None:
        """Raises `ApprovalDecided`, `ApproverIsRequester`."""
        self.check_open(at)
        if self.requested_by in (by, token_issued_by):
            raise ApproverIsRequester

    def check_amount(self, nanos: int) -> None:
        """Raises `AmountGrown`."""
        if nanos > self.amount_nanos:
            raise AmountGrown(self.id)

    def check_open(self, at: datetime) -> None:
        """Raises `ApprovalDecided`."""
        status = self.at(at)
        if status is not ApprovalStatus.PENDING:
            raise ApprovalDecided(self.id, status)
