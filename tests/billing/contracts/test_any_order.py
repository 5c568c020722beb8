"""Whatever is used, told late, corrected, in any order and batches: nothing of a commitment is lost, to the nano-unit."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import uuid4

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from headrace_billing.charges.charge import ChargeKind
from headrace_billing.contracts import period_store, store, used_store
from headrace_billing.contracts.drawdown import (
    Used,
    overage_by_month,
    rest_of,
    surcharge_nanos,
    true_up_nanos,
)
from headrace_billing.contracts.dues import Charged, Due, differences
from headrace_billing.contracts.term import Cadence, Term, after, month_of
from headrace_billing.contracts.terms import Commitment, Funding, Rollover
from headrace_billing.invoicing.usage import Span
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.transaction import Account, AccountKind
from headrace_contracts.usage import Disposition, TokenCounts, UsageEvent
from tests.billing.contracts.desk import DECEMBER, JANUARY, PREPAID, Desk
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import Customer, Document

NANOS = st.integers(0, 10**13)
PERIODS = 3


@given(
    left=NANOS,
    share=st.integers(0, 1_000_000),
    cap=st.none() | NANOS,
)
def test_what_is_left_is_rolled_or_broken_and_nothing_else(left: int, share: int, cap: int | None) -> None:
    rest = rest_of(left, Rollover(share, cap, 1))
    assert rest.rolled_nanos + rest.broken_nanos == left
    assert rest.rolled_nanos >= 0
    assert rest.broken_nanos >= 0
    assert cap is None or rest.rolled_nanos <= cap


@given(used=st.lists(NANOS, min_size=12, max_size=12), committed=NANOS, times=st.integers(1, 3_000_000))
def test_overage_of_the_months_is_what_the_year_is_beyond_its_commitment(
    used: list[int], committed: int, times: int
) -> None:
    term = Term(DECEMBER.date(), 12, Cadence.YEARLY)
    commitment = Commitment(funding=Funding.POSTPAID, amounts_nanos=[committed], overage_millionths=times)
    months = dict(zip(term.every_month(), (Used(0, nanos) for nanos in used), strict=True))
    found = overage_by_month(months, term=term, commitments={0: commitment}, months=list(months))
    assert sum(found.values()) == max(sum(used) - committed, 0)
    assert true_up_nanos(committed_nanos=committed, used_nanos=sum(used)) == max(committed - sum(used), 0)
    assert all(nanos >= 0 for nanos in found.values())
    for nanos in found.values():
        assert abs(surcharge_nanos(nanos, commitment) * 1_000_000 - nanos * (times - 1_000_000)) <= 500_000


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20))
def test_however_often_a_due_is_looked_at_its_charges_add_up_to_what_it_is(seen: list[int]) -> None:
    charged = Charged(0, 0, 0)
    for nanos in seen:
        due = Due(
            key="true-up:0",
            kind=ChargeKind.TRUE_UP,
            label="rest",
            span=Span(DECEMBER, JANUARY),
            quantity=1,
            unit="period",
            nanos=nanos,
        )
        for one in differences([due], {due.key: charged}):
            charged = Charged(charged.quantity + one.due.quantity, charged.nanos + one.due.nanos, one.number)
        assert charged.nanos == nanos
        assert differences([due], {due.key: charged}) == []


@dataclass(frozen=True)
class Use:
    month: int
    told_after: int
    """Months later."""
    tokens: int
    estimated: int | None
    """What an estimate said that was told at once; the final event comes when the use is told."""


USES = st.lists(
    st.builds(
        Use,
        month=st.integers(0, PERIODS - 1),
        told_after=st.integers(0, 2),
        tokens=st.integers(1, 700_000),
        estimated=st.none() | st.integers(1, 700_000),
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=4,
    deadline=None,
    # An example takes seconds: shrinking one would take minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    uses=USES, share=st.sampled_from(["0", "0.333333", "1"]), backwards=st.booleans(), amended=st.booleans()
)
@example(
    # Of a period that has ended, a correction and then more usage, which is to burn what the correction gave back.
    uses=[
        Use(month=0, told_after=1, tokens=448, estimated=12675),
        Use(month=1, told_after=2, tokens=543800, estimated=None),
        Use(month=0, told_after=1, tokens=65536, estimated=None),
        Use(month=1, told_after=1, tokens=214296, estimated=None),
    ],
    share="1",
    backwards=False,
    amended=True,
)
async def test_used_left_rolled_and_broken_are_what_was_committed_in_any_order_and_split(
    desk: Desk, uses: list[Use], share: str, backwards: bool, amended: bool
) -> None:
    starts = after(month_of(desk.shop.clock.now), 1)
    customers = [await desk.shop.seller.customer(credit=None) for _ in range(2)]
    terms = {"commitment": {**PREPAID, "amounts": ["27.00", "18.01"], "rollover": {"share": share}}}
    contracts = [
        await desk.sign(
            organization=customer.org, projects=[customer.project], starts_on=starts.isoformat(), terms=terms
        )
        for customer in customers
    ]
    if amended:
        for contract in contracts:
            more = {"commitment": {**terms["commitment"], "amounts": ["9.000000001"]}}
            amendment = {"effective_on": after(starts, 2).isoformat(), "terms": more, "reason": "less"}
            await desk.shop.seller.post(f"/v1/contracts/{contract['id']}/amendments", amendment)
    told = [
        _events(desk, customer, contract, starts_at=_begins(after(starts, 0)), uses=uses)
        for customer, contract in zip(customers, contracts, strict=True)
    ]
    for step in range(PERIODS + 3):
        await desk.passes_to(_begins(after(starts, step)))
        # One by one as they came, and all at once the other way round.
        for event in (event for at, event in told[0] if at == step):
            await take(desk.shop.database, event)
        batch = [event for at, event in told[1] if at == step]
        if batch:
            await take(desk.shop.database, *(reversed(batch) if backwards else batch))
        sums = [await _sums(desk, contract) for contract in contracts]
        assert sums[0] == sums[1]
    async with desk.shop.database.begin() as session:
        assert await ledger.rebuild(session) == []


def _begins(month: date) -> datetime:
    return datetime.fromisoformat(f"{month}T00:00:00+00:00")


def _events(
    desk: Desk, customer: Customer, contract: Document, *, starts_at: datetime, uses: list[Use]
) -> list[tuple[int, UsageEvent]]:
    """With the month after whose beginning each is told."""
    gateway = Gateway(customer, desk.shop.gateway.price_book, boot=customer.org)
    found = []
    for use in uses:
        request = str(uuid4())
        fields = {
            "request": request,
            "received_at": _begins(after(starts_at.date(), use.month)) + timedelta(days=3),
            "wallet": contract["wallet"],
            "disposition": Disposition.COMMITMENT,
        }
        if use.estimated is not None:
            estimate = gateway.estimate(tokens=TokenCounts(output_visible=use.estimated), **fields)
            found.append((use.month, estimate))
        final = gateway.event(tokens=TokenCounts(output_visible=use.tokens), **fields)
        found.append((use.month + use.told_after, final))
    return found


async def _sums(desk: Desk, document: Document) -> dict[str, int]:
    """Of a contract, and nothing of it is missing."""
    async with desk.shop.database.snapshot() as session:
        contract = await store.read(session, document["id"])
        periods = await period_store.periods(session, contract.id)
        lots = await period_store.lots(session, contract.id)
        used = sum(one.drawn_nanos for one in (await used_store.by_month(session, contract)).values())
        charged = (await store.charged(session, contract.id)).get("overdrawn")
        overdraft = await ledger.balance(session, Account(AccountKind.OVERDRAFT, document["wallet"], "USD"))
    for lot in lots:
        assert lot.granted_nanos == lot.used_nanos + lot.left_nanos + lot.rolled_nanos + lot.broken_nanos
    committed = sum(period.committed_nanos for period in periods)
    paid = sum(period.paid_nanos for period in periods)
    sums = {
        "used": sum(lot.used_nanos for lot in lots) + paid,
        "left": sum(lot.left_nanos for lot in lots),
        "broken": sum(period.broken_nanos for period in periods) - paid,
        "rolled": sum(lot.rolled_nanos for lot in lots),
    }
    assert sums["used"] + sums["left"] + sums["broken"] == committed
    assert sums["broken"] >= 0
    # Every nano-unit that was used is paid by the commitment, or by nobody yet.
    beyond = overdraft + (0 if charged is None else charged.nanos)
    assert used == sums["used"] + beyond
    return {**sums, "beyond": beyond}
