"""What a charge for usage posts: revenue for everybody, and the wallet at once for those who paid ahead."""

from collections.abc import Mapping
from datetime import datetime

from headrace_billing.ingest.arrival import PAID_AHEAD
from headrace_billing.ledger.lots import Holdings, applied, charge
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
    net,
)
from headrace_billing.rating.cumulative import Payer
from headrace_contracts.usage import Disposition


def usage_transaction(
    payer: Payer,
    nanos_by_model: Mapping[str, int],
    *,
    key: str,
    memo: Mapping[str, str],
    occurred_at: datetime,
    holdings: Holdings | None,
    broken_nanos: int = 0,
    late_for: datetime | None = None,
) -> Transaction | None:
    """Null where nothing moves. An amount may be negative, when a final event was smaller than its estimate.

    Unbilled against revenue; and where the project is prepaid, its lots against credit applied, so that the
    invoice has nothing left to collect for it. By model, because credit may be for one model only.
    `broken_nanos` of it, signed, breakage pays: the usage is late for a period whose commitment was broken, and which
    ended at `late_for`.
    """
    total = sum(nanos_by_model.values())
    unbilled = Account(AccountKind.UNBILLED, payer.org, payer.currency)
    revenue = business(AccountKind.REVENUE_TOKENS, payer.currency)
    postings = [*move(total, debit=unbilled, credit=revenue)]
    if payer.disposition in PAID_AHEAD:
        assert holdings is not None, f"{payer.wallet} was not locked"
        burnt = (
            [Posting(business(AccountKind.BREAKAGE, payer.currency), broken_nanos)] if broken_nanos else []
        )
        left = total - broken_nanos
        # A part of a sum has no model. Only credit can be for one, and only a commitment breaks.
        for model, nanos in sorted(nanos_by_model.items()) if not broken_nanos else [(None, left)]:
            taken = charge(
                holdings,
                nanos,
                project=payer.project,
                model=model,
                owes_back=payer.disposition is Disposition.COMMITMENT,
                late_for=late_for,
            )
            holdings = applied(holdings, taken)
            burnt += taken
        wallet_applied = Account(AccountKind.WALLET_APPLIED, payer.org, payer.currency)
        postings += [*net(burnt), *([Posting(wallet_applied, -total)] if total else [])]
    if not postings:
        return None
    return Transaction(
        key=f"{key}:{payer.period:%Y-%m}:{payer.project}:{payer.wallet}:{payer.disposition}",
        kind=TransactionKind.USAGE,
        currency=payer.currency,
        occurred_at=occurred_at,
        postings=tuple(postings),
        memo={**memo, "period": f"{payer.period:%Y-%m}", "project": payer.project},
    )
