"""Credit lots: in which order a wallet's grants are burnt, and how what was burnt goes back.

A wallet's balance is the sum of its lots less its overdraft. What a lot has left is a projection of its postings,
and the database lets it never fall below zero. Expiry is a posting too (`ledger.jobs`): until it is posted a lot
still counts, so that balance and burning can't disagree about the time of day.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from headrace_billing.ledger.transaction import LOT_KINDS, Account, AccountKind, Posting

PRIORITY_DEFAULT = 100
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lot:
    id: str
    wallet: str
    kind: AccountKind
    currency: str
    scope: str | None
    """The one project that may burn it; null means every project of the wallet."""
    priority: int
    """Lower burns first."""
    expires_at: datetime | None
    opened_at: datetime
    remaining_nanos: int
    used_nanos: int = 0
    """Burnt by usage and not given back: the most that a correction of usage can return here."""
    last_burnt: int = 0
    """Grows with each burn, so that the lot burnt last is known."""
    scope_model: str | None = None
    """The one model whose usage may burn it; null means every model."""

    def __post_init__(self) -> None:
        assert self.kind in LOT_KINDS, f"{self.id}: a lot of kind {self.kind}"

    @property
    def account(self) -> Account:
        return Account(self.kind, self.wallet, self.currency)

    @property
    def is_scoped(self) -> bool:
        return self.scope is not None or self.scope_model is not None

    def serves(self, project: str | None, model: str | None) -> bool:
        return self.scope in (None, project) and self.scope_model in (None, model)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a wallet has, read under its lock."""

    wallet: str
    currency: str
    lots: tuple[Lot, ...]
    overdraft_nanos: int

    @property
    def balance_nanos(self) -> int:
        return sum(lot.remaining_nanos for lot in self.lots) - self.overdraft_nanos

    @property
    def overdraft_account(self) -> Account:
        return Account(AccountKind.OVERDRAFT, self.wallet, self.currency)


def burn_order(lots: Sequence[Lot], *, late_for: datetime | None = None) -> list[Lot]:
    """Scoped → priority → promo before paid → earliest expiry → oldest → id.

    `late_for`: the end of a period that usage comes late for. Lots of then have what corrections gave back, which is lost
    if nothing burns it, so they come before all.
    """
    return sorted(
        lots,
        key=lambda lot: (
            late_for is None or lot.expires_at != late_for,
            not lot.is_scoped,
            lot.priority,
            lot.kind is not AccountKind.WALLET_PROMO,
            lot.expires_at or NEVER,
            lot.opened_at,
            lot.id,
        ),
    )


def burn(
    holdings: Holdings,
    amount_nanos: int,
    *,
    project: str | None,
    model: str | None = None,
    late_for: datetime | None = None,
) -> tuple[tuple[Posting, ...], int]:
    """Debits to the lots in burn order, and what they could not pay."""
    assert amount_nanos >= 0, f"burning {amount_nanos} from {holdings.wallet}"
    postings, short = [], amount_nanos
    for lot in burn_order([lot for lot in holdings.lots if lot.serves(project, model)], late_for=late_for):
        part = min(short, lot.remaining_nanos)
        if part:
            postings.append(Posting(lot.account, part, lot.id))
            short -= part
    return tuple(postings), short


def charge(
    holdings: Holdings,
    amount_nanos: int,
    *,
    project: str | None,
    model: str | None = None,
    owes_back: bool = False,
    late_for: datetime | None = None,
) -> tuple[Posting, ...]:
    """Postings for usage: it has happened, so what no lot pays becomes overdraft. Negative gives usage back.

    `owes_back`: overdraft may have been charged since; what is given back of that makes it fall below zero.
    """
    if amount_nanos < 0:
        return give_back(holdings, -amount_nanos, project=project, model=model, owes_back=owes_back)
    postings, short = burn(holdings, amount_nanos, project=project, model=model, late_for=late_for)
    return (*postings, *([Posting(holdings.overdraft_account, short)] if short else []))


def give_back(
    holdings: Holdings,
    amount_nanos: int,
    *,
    project: str | None = None,
    model: str | None = None,
    owes_back: bool = False,
) -> tuple[Posting, ...]:
    """Unwinds usage, newest burn first: the overdraft, then the lots that usage was recorded to have burnt.

    Lots that serve such usage come before those that can't have paid for it.

    Burning and giving back work like a stack, so a wallet's lots depend on what it used and not on the order in
    which estimates and their corrections came.
    """
    postings, left = [], amount_nanos
    part = min(left, max(holdings.overdraft_nanos, 0))
    if part:
        postings.append(Posting(holdings.overdraft_account, -part))
        left -= part
    for lot in sorted(
        holdings.lots, key=lambda lot: (lot.serves(project, model), lot.last_burnt), reverse=True
    ):
        part = min(left, lot.used_nanos)
        if part:
            postings.append(Posting(lot.account, -part, lot.id))
            left -= part
    if left and owes_back:
        postings.append(Posting(holdings.overdraft_account, -left))
        left = 0
    assert left == 0, f"{holdings.wallet}: {left} nano-units to give back that were never burnt"
    return tuple(postings)


def applied(holdings: Holdings, postings: Sequence[Posting]) -> Holdings:
    """What the wallet holds once usage is posted, for the next charge of the same session."""
    moved: dict[str | None, int] = {}
    for posting in postings:
        if posting.account.owner == holdings.wallet:
            moved[posting.lot] = moved.get(posting.lot, 0) + posting.amount_nanos
    newest = max((lot.last_burnt for lot in holdings.lots), default=0)
    # In the order of the postings, as the database will number them.
    burnt = {p.lot: newest + n for n, p in enumerate(postings, start=1) if p.amount_nanos > 0}
    lots = tuple(
        replace(
            lot,
            remaining_nanos=lot.remaining_nanos - moved.get(lot.id, 0),
            used_nanos=lot.used_nanos + moved.get(lot.id, 0),
            last_burnt=burnt.get(lot.id, lot.last_burnt),
        )
        for lot in holdings.lots
    )
    return replace(holdings, lots=lots, overdraft_nanos=holdings.overdraft_nanos + moved.get(None, 0))
