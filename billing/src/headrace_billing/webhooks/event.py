"""What endpoints hear of. Each is noted by a trigger on the table where it happens; the body only points at it.

A body says little on purpose: what it names is read from the API, so nobody acts on a message that came late.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    INVOICE_FINALIZED = "invoice.finalized"
    CREDIT_LOW = "credit.low"
    KEY_REVOKED = "key.revoked"
    OUTCOME_VERIFIED = "outcome.verified"
    OUTCOME_ACCEPTED = "outcome.accepted"
    OUTCOME_REJECTED = "outcome.rejected"
    OUTCOME_EXPIRED = "outcome.expired"
    OUTCOME_WITHDRAWN = "outcome.withdrawn"
    AUTO_TOP_UP_CEILING = "notice.auto_top_up_ceiling"
    AUTO_TOP_UP_STOPPED = "notice.auto_top_up_stopped"
    PAYMENT_NEEDS_AUTHENTICATION = "notice.payment_needs_authentication"
    TOP_UP_REFUSED = "notice.top_up_refused"
    TOP_UP_QUARANTINED = "notice.top_up_quarantined"
    PAYMENT_REFUSED = "notice.payment_refused"
    PAYMENT_QUARANTINED = "notice.payment_quarantined"
    SIGN_UP_REFUSED = "notice.sign_up_refused"
    REFUND_FAILED = "notice.refund_failed"
    DISPUTE_OPENED = "notice.dispute_opened"
    DISPUTE_WON = "notice.dispute_won"
    DISPUTE_LOST = "notice.dispute_lost"
    DISPUTE_CLOSED = "notice.dispute_closed"
    INVOICE_DUE = "notice.invoice_due"
    INVOICE_OVERDUE = "notice.invoice_overdue"
    SERVICE_PAUSED = "notice.service_paused"
    WEBHOOK_DISABLED = "notice.webhook_disabled"
    SUBSCRIPTION_CREATED = "subscription.created"
    SUBSCRIPTION_STARTED = "subscription.started"
    SUBSCRIPTION_RENEWED = "subscription.renewed"
    SUBSCRIPTION_CHANGED = "subscription.changed"
    SUBSCRIPTION_CHANGE_SCHEDULED = "subscription.change_scheduled"
    SUBSCRIPTION_CHANGE_UNDONE = "subscription.change_undone"
    SUBSCRIPTION_PAUSED = "subscription.paused"
    SUBSCRIPTION_RESUMED = "subscription.resumed"
    SUBSCRIPTION_PAST_DUE = "subscription.past_due"
    SUBSCRIPTION_RECOVERED = "subscription.recovered"
    SUBSCRIPTION_CANCELLED = "subscription.cancelled"
    CONTRACT_PERIOD_OPENED = "contract.period_opened"
    CONTRACT_PERIOD_CLOSED = "contract.period_closed"
    CONTRACT_THRESHOLD_REACHED = "contract.threshold_reached"
    CONTRACT_SERVICE_CREDITED = "contract.service_credited"
    CONTRACT_CREDIT_REVERSED = "contract.credit_reversed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    id: str
    """Stays the same however often it is sent: receivers tell by it what they have had."""
    type: str
    at: datetime
    data: Mapping[str, Any]

    def body(self) -> str:
        """The same characters each time."""
        shown = {"type": self.type, "timestamp": self.at.isoformat(), "data": self.data}
        return json.dumps(shown, sort_keys=True, separators=(",", ":"))
