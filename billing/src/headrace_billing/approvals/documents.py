"""An approval as the API shows it."""

from datetime import datetime
from typing import Any

from headrace_billing.approvals.approval import Approval
from headrace_billing.money import major


def approval_document(approval: Approval, *, now: datetime) -> dict[str, Any]:
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
