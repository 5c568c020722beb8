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
    CONTRACT_PERIOD_OPENED = "contract.period_opened"
    CONTRACT_PERIOD_CLOSED = "contract.period_closed"
    CONTRACT_THRESHOLD_REACHED = "contract.threshold_reached"
    CONTRACT_SERVICE_CREDITED = "contract.service_credited"
    CONTRACT_CREDIT_REVERSED = "contract.credit_reversed"
    ENDPOINT_DISABLED = "notice.webhook_disabled"


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
