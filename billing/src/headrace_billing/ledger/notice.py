"""What an organisation may be told of: every kind there is. Each is a webhook's type as well, see `webhooks/event.py`.

docs/reference/webhook-events.md has an example of each, to which tests hold what is told.
"""

from enum import StrEnum


class NoticeKind(StrEnum):
    BALANCE_LOW = "balance_low"
    AUTO_TOP_UP_CEILING = "auto_top_up_ceiling"
    AUTO_TOP_UP_STOPPED = "auto_top_up_stopped"
    PAYMENT_NEEDS_AUTHENTICATION = "payment_needs_authentication"
    TOP_UP_REFUSED = "top_up_refused"
    TOP_UP_QUARANTINED = "top_up_quarantined"
    PAYMENT_REFUSED = "payment_refused"  # of an invoice
    PAYMENT_QUARANTINED = "payment_quarantined"
    SIGN_UP_REFUSED = "sign_up_refused"  # paid, and the plan could not begin after all
    REFUND_FAILED = "refund_failed"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    DISPUTE_CLOSED = "dispute_closed"
    INVOICE_DUE = "invoice_due"
    INVOICE_OVERDUE = "invoice_overdue"
    SERVICE_PAUSED = "service_paused"
    WEBHOOK_DISABLED = "webhook_disabled"
