"""Every operation of the API and what it needs: the one place that says so. An operation without a line is refused.

Operations are named as in the OpenAPI document (`operationId`), which is by the function that answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from headrace_billing.members.permission import Permission


class Open(Enum):
    """What asks for no member."""

    TO_ALL = "to all"
    TO_MACHINES = "to machines"
    """By the ingest token."""
    TO_KEYS = "to keys"
    """To the project of an API key alone, which the route asks for: what a key has models do is for no member to do."""


class Reach(Enum):
    """How far the members of an organisation come."""

    SELLER = "seller"
    """Not at all."""
    NAMED = "named"
    """They must name what it is about, and whatever they name must be their organisation's."""
    OWN = "own"
    """What they name must be their organisation's; where they name nothing the route keeps to it by itself."""


@dataclass(frozen=True, slots=True)
class Operation:
    permission: Permission
    reach: Reach = Reach.SELLER


def _named(permission: Permission) -> Operation:
    return Operation(permission, Reach.NAMED)


def _own(permission: Permission) -> Operation:
    return Operation(permission, Reach.OWN)


OPERATIONS: Mapping[str, Operation | Open] = {
    "healthz": Open.TO_ALL,
    "readyz": Open.TO_ALL,
    "take_usage_events": Open.TO_MACHINES,
    "take_engine_records": Open.TO_MACHINES,
    "take_gpu_time": Open.TO_MACHINES,
    # Each by a token or a signature of its own, which the route checks.
    "report_usage": Open.TO_ALL,
    "take_webhook": Open.TO_ALL,
    **dict.fromkeys(
        (
            "upload_file",
            "list_files",
            "show_file",
            "show_file_content",
            "remove_file",
            "add_batch",
            "list_batches",
            "show_batch",
            "cancel_batch",
        ),
        Open.TO_KEYS,
    ),
    # Accounts
    "add_organization": Operation(Permission.ACCOUNTS_WRITE),
    "list_organizations": Operation(Permission.ACCOUNTS_READ),
    "show_organization": Operation(Permission.ACCOUNTS_READ),
    "show_organization_limits": Operation(Permission.ACCOUNTS_READ),
    "change_organization": Operation(Permission.ACCOUNTS_WRITE),
    "add_project": Operation(Permission.ACCOUNTS_WRITE),
    "list_projects": _named(Permission.ACCOUNTS_READ),
    "show_project": _named(Permission.ACCOUNTS_READ),
    "show_project_limits": _named(Permission.ACCOUNTS_READ),
    "change_project": Operation(Permission.ACCOUNTS_WRITE),
    "add_key": _named(Permission.KEYS_WRITE),
    "list_keys": _named(Permission.ACCOUNTS_READ),
    "show_key": _named(Permission.ACCOUNTS_READ),
    "show_key_limits": _named(Permission.ACCOUNTS_READ),
    "change_key": _named(Permission.KEYS_WRITE),
    "rotate_key": _named(Permission.KEYS_WRITE),
    "revoke_key": _named(Permission.KEYS_WRITE),
    "add_service_account": _named(Permission.KEYS_WRITE),
    "list_service_accounts": _named(Permission.ACCOUNTS_READ),
    "disable_service_account": _named(Permission.KEYS_WRITE),
    # Members, and what they did
    "show_me": _own(Permission.SELF),
    "add_member": _named(Permission.MEMBERS_WRITE),
    "list_members": _named(Permission.MEMBERS_READ),
    "change_member": _named(Permission.MEMBERS_WRITE),
    "remove_member": _named(Permission.MEMBERS_WRITE),
    "issue_member_token": _named(Permission.SELF),
    "list_member_tokens": _named(Permission.SELF),
    "revoke_member_token": _named(Permission.SELF),
    "show_audit_log": _own(Permission.AUDIT_READ),
    # Four eyes
    "list_approvals": Operation(Permission.APPROVALS_READ),
    "show_approval": Operation(Permission.APPROVALS_READ),
    "approve": Operation(Permission.APPROVALS_DECIDE),
    "refuse": Operation(Permission.APPROVALS_DECIDE),
    "list_approval_bounds": Operation(Permission.APPROVALS_READ),
    "set_approval_bound": Operation(Permission.BOUNDS_WRITE),
    # Credit and the ledger
    "grant_credit": Operation(Permission.MONEY_WRITE),
    "refund_grant": Operation(Permission.MONEY_WRITE),
    "list_grants": _named(Permission.MONEY_READ),
    "show_grant": _named(Permission.MONEY_READ),
    "show_wallet": _named(Permission.MONEY_READ),
    "set_alert": _named(Permission.ALERTS_WRITE),
    "list_notices": _named(Permission.MONEY_READ),
    "show_trial_balance": Operation(Permission.BOOKS_READ),
    # Webhooks
    "add_webhook_endpoint": _named(Permission.WEBHOOKS_WRITE),
    "list_webhook_endpoints": _named(Permission.WEBHOOKS_READ),
    "change_webhook_endpoint": _named(Permission.WEBHOOKS_WRITE),
    "rotate_webhook_secret": _named(Permission.WEBHOOKS_WRITE),
    "replay_webhooks": _named(Permission.WEBHOOKS_WRITE),
    "remove_webhook_endpoint": _named(Permission.WEBHOOKS_WRITE),
    "list_webhook_deliveries": _named(Permission.WEBHOOKS_READ),
    # Prices and costs
    "publish_price_book": Operation(Permission.PRICES_WRITE),
    "list_price_books": _named(Permission.PRICES_READ),
    "preview_prices": Operation(Permission.PRICES_READ),
    "publish_cost_book": Operation(Permission.BOOKS_WRITE),
    "list_cost_books": Operation(Permission.BOOKS_READ),
    "show_margins": Operation(Permission.BOOKS_READ),
    # Outcomes; the routes themselves keep the seller from accepting what it sells
    "add_outcome_type": Operation(Permission.PRICES_WRITE),
    "add_task": _named(Permission.TASKS_WRITE),
    "show_task": _named(Permission.TASKS_READ),
    "report_outcome": _named(Permission.TASKS_WRITE),
    "show_outcome": _named(Permission.TASKS_READ),
    "accept_outcome": _named(Permission.TASKS_WRITE),
    "reject_outcome": _named(Permission.TASKS_WRITE),
    # Invoices
    "close": Operation(Permission.MONEY_WRITE),
    "begin_run": Operation(Permission.MONEY_WRITE),
    "show_run": Operation(Permission.BOOKS_READ),
    "list_drafts": Operation(Permission.BOOKS_READ),
    "show_draft": Operation(Permission.BOOKS_READ),
    "retry_run": Operation(Permission.MONEY_WRITE),
    "save_tax_rates": Operation(Permission.MONEY_WRITE),
    "save_profile": Operation(Permission.MONEY_WRITE),
    "show_profile": _named(Permission.MONEY_READ),
    "record_payment": Operation(Permission.MONEY_WRITE),
    "credit": Operation(Permission.MONEY_WRITE),
    "void": Operation(Permission.MONEY_WRITE),
    "write_off": Operation(Permission.MONEY_WRITE),
    "show_settlements": _named(Permission.MONEY_READ),
    "show_credit_note": _named(Permission.MONEY_READ),
    "show_credit_note_pdf": _named(Permission.MONEY_READ),
    "export_focus": _named(Permission.MONEY_READ),
    "list_invoices": _named(Permission.MONEY_READ),
    "show_invoice": _named(Permission.MONEY_READ),
    "show_pdf": _named(Permission.MONEY_READ),
    "show_factur_x": _named(Permission.MONEY_READ),
    "show_invoice_xml": _named(Permission.MONEY_READ),
    "show_credit_note_factur_x": _named(Permission.MONEY_READ),
    "show_credit_note_xml": _named(Permission.MONEY_READ),
    "save_seller": Operation(Permission.MONEY_WRITE),
    # Contracts
    "sign_contract": Operation(Permission.MONEY_WRITE),
    "amend_contract": Operation(Permission.MONEY_WRITE),
    "end_contract": Operation(Permission.MONEY_WRITE),
    "list_contracts": _named(Permission.MONEY_READ),
    "show_contract": _named(Permission.MONEY_READ),
    "show_standing": _named(Permission.MONEY_READ),
    "show_burn_down": _named(Permission.MONEY_READ),
    "preview_gpu_time": _named(Permission.MONEY_READ),
    "show_service_levels": _named(Permission.MONEY_READ),
    "list_service_credits": _named(Permission.MONEY_READ),
    "reverse_service_credit": Operation(Permission.MONEY_WRITE),
    "declare_maintenance": Operation(Permission.MONEY_WRITE),
    "list_maintenance": Operation(Permission.MONEY_READ),
    # Payments
    "top_up": _named(Permission.MONEY_WRITE),
    "list_top_ups": _named(Permission.MONEY_READ),
    "show_top_up": _named(Permission.MONEY_READ),
    "cancel_top_up": _named(Permission.MONEY_WRITE),
    "refund_top_up": Operation(Permission.MONEY_WRITE),
    "list_refunds": _named(Permission.MONEY_READ),
    "list_disputes": _named(Permission.MONEY_READ),
    "add_card": _named(Permission.MONEY_WRITE),
    "list_cards": _named(Permission.MONEY_READ),
    "remove_card": _named(Permission.MONEY_WRITE),
    "set_default_card": _named(Permission.MONEY_WRITE),
    "save_auto_top_up": _named(Permission.MONEY_WRITE),
    "show_auto_top_up": _named(Permission.MONEY_READ),
    "remove_auto_top_up": _named(Permission.MONEY_WRITE),
    "pay_invoice": _named(Permission.MONEY_WRITE),
    "stop_dunning": Operation(Permission.MONEY_WRITE),
    "show_dunning": _named(Permission.MONEY_READ),
    "show_payments": Operation(Permission.BOOKS_READ),
    # Plans and subscriptions; what a customer pays for is given back by the seller alone, as the routes see to
    "publish_plan": Operation(Permission.PRICES_WRITE),
    "list_plans": _own(Permission.PRICES_READ),
    "show_plan": _own(Permission.PRICES_READ),
    "start_subscription": Operation(Permission.MONEY_WRITE),
    "start_sign_up": _named(Permission.MONEY_WRITE),
    "list_sign_ups": _named(Permission.MONEY_READ),
    "show_sign_up": _named(Permission.MONEY_READ),
    "cancel_sign_up": _named(Permission.MONEY_WRITE),
    "preview_start": _named(Permission.MONEY_READ),
    "list_subscriptions": _named(Permission.MONEY_READ),
    "show_subscription": _named(Permission.MONEY_READ),
    "change_subscription": _named(Permission.MONEY_WRITE),
    "pause_subscription": _named(Permission.MONEY_WRITE),
    "resume_subscription": _named(Permission.MONEY_WRITE),
    "cancel_subscription": _named(Permission.MONEY_WRITE),
    "undo_subscription_change": _named(Permission.MONEY_WRITE),
    "preview_subscription": _named(Permission.MONEY_READ),
    # The close of a month
    "close_accounting_month": Operation(Permission.BOOKS_WRITE),
    "show_month": Operation(Permission.BOOKS_READ),
    "show_schedule": Operation(Permission.BOOKS_READ),
    # Outside meters
    "add_meter": Operation(Permission.BOOKS_WRITE),
    "list_meters": Operation(Permission.BOOKS_READ),
    "show_meter": Operation(Permission.BOOKS_READ),
    "rotate_meter": Operation(Permission.BOOKS_WRITE),
    "revoke_meter": Operation(Permission.BOOKS_WRITE),
    "declare_gap": Operation(Permission.BOOKS_WRITE),
    "open_backfill": Operation(Permission.BOOKS_WRITE),
    "list_backfills": Operation(Permission.BOOKS_READ),
    "show_backfill": Operation(Permission.BOOKS_READ),
    # Reconciliation
    "show_stages": Operation(Permission.BOOKS_READ),
    "look_at_stages": Operation(Permission.BOOKS_READ),
    "settle_matter": Operation(Permission.BOOKS_WRITE),
    "show_reconciliation": Operation(Permission.BOOKS_READ),
    "declare_loss": Operation(Permission.BOOKS_WRITE),
    # Usage
    "show_usage": _own(Permission.USAGE_READ),
    "show_costs": _own(Permission.USAGE_READ),
    "show_sessions": _own(Permission.USAGE_READ),
    "show_request": _own(Permission.USAGE_READ),
    "show_gpu_time": Operation(Permission.BOOKS_READ),
    # Time, where it can be moved
    "show_clock": Operation(Permission.BOOKS_READ),
    "advance_clock": Operation(Permission.BOOKS_WRITE),
}
