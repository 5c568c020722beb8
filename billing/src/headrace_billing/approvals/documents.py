"""An approval as the API shows it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from headrace_billing.approvals.approval import Approval, ApprovalStatus
from headrace_billing.money import major


class ApprovalDocument(TypedDict):
    id: str
    operation: str
    organization: str
    subject: str
    currency: str
    amount: str
    request: Mapping[str, Any]
    reason: str
    status: ApprovalStatus
    requested_by: str
    requested_at: str
    expires_at: str
    decided_by: str | None
    decided_at: str | None
    result: Mapping[str, Any] | None


class Waiting(TypedDict):
    """Nothing was done yet."""

    approval: ApprovalDocument


class BoundDocument(TypedDict):
    operation: str
    currency: str
    above: str | None


class Bounds(TypedDict):
    items: list[BoundDocument]


def approval_document(approval: Approval, *, now: datetime) -> ApprovalDocument:
    return {
        "id": approval.id,
        "operation": approval.operation,
        "organization": approval.org,
        "subject": approval.subject,
        "currency": approval.currency,
        "amount": major(approval.amount_nanos),
        "request": approval.request,
        "reason": approval.reason,
        "status": approval.at(now),
        "requested_by": approval.requested_by,
        "requested_at": approval.requested_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(),
        "decided_by": approval.decided_by,
        "decided_at": None if approval.decided_at is None else approval.decided_at.isoformat(),
        "result": approval.result,
    }
