"""Periods turn: one ends, what it left is rolled over or broken, the next begins, and its commitment is charged and opened.

One turn is one transaction under the contract's lock, so a missed one is made up for once, whoever comes and dies.
"""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store as charges
from headrace_billing.charges.charge import Charge, ChargeKind, Recognition
from headrace_billing.contracts import funding, period_store, project_store, store
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.drawdown import rest_of
from headrace_billing.contracts.dues import MICROSECOND, NEVER
from headrace_billing.contracts.period_store import Period
from headrace_billing.contracts.terms import WhenUsedUp
from headrace_billing.ids import new_id
from headrace_billing.invoicing.usage import Span
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger import wallets
from headrace_billing.ledger.lots import PRIORITY_DEFAULT
from headrace_billing.ledger.transaction import AccountKind

ROLLED_PRIORITY = PRIORITY_DEFAULT - 10
"""What rolled over burns before the period's own commitment, which lives longer or costs the customer as much."""


@dataclass(slots=True)
class Turned:
    """What gateways must be told once the transaction stands."""

    records: list[str] = field(default_factory=list)
    wallets: list[str] = field(default_factory=list)


async def turn(session: AsyncSession, contract: Contract, *, now: datetime) -> Turned | None:
    """The next turn that is due; null where none is. The contract must be locked."""
    begun = await period_store.periods(session, contract.id)
    index = len(begun)
    if contract.closed_at is not None:
        return None
    if index < contract.term.periods:
        span = contract.term.period(index)
        return await _begin(session, contract, begun, span, now=now) if span.start <= now else None
    if now < contract.term.ends_at:
        return None
    await _close(session, contract, begun[-1], now=now)
    return await _end(session, contract, now=now)


async def settle_rest(session: AsyncSession, contract: Contract, *, now: datetime) -> None:
    """Of a contract that has ended: what was used beyond is charged, and what corrections gave back settles that first.

    What then is left is broken. The contract must be locked.
    """
    assert contract.wallet is not None, contract.id
    begun = await period_store.periods(session, contract.id)
    held = (await wallets.lock(session, [contract.wallet]))[contract.wallet]
    charged = (await store.charged(session, contract.id)).get(OVERDRAWN, NEVER)
    await ledger.post_all(
        session,
        funding.repaid(
            funding.ended_lots(held.lots, by=contract.term.ends_at),
            contract=contract.id,
            nanos=held.overdraft_nanos + charged.nanos,
            holdings=held,
            at=now,
        ),
    )
    await _break_or_roll(session, contract, begun[-1], now=now)
    held = (await wallets.lock(session, [contract.wallet]))[contract.wallet]
    if not held.overdraft_nanos:
        return
    number = charged.times + 1
    charge = Charge(
        id=new_id("chg", now),
        reference=f"contract:{contract.id}:{OVERDRAWN}:{number}",
        organization=contract.organization,
        currency=contract.currency,
        kind=ChargeKind.OVERAGE,
        recognition=Recognition.ELSEWHERE,
        label=f"{contract.name}: usage beyond the last commitment",
        quantity=1,
        unit="contract",
        amount_nanos=held.overdraft_nanos,
        span=contract.term.period(contract.term.periods - 1),
        happened_at=contract.term.ends_at - MICROSECOND,
    )
    (charge_id,) = await charges.put(session, [charge])
    await store.add_due(
        session, contract.id, OVERDRAWN, number, quantity=1, nanos=charge.amount_nanos, charge=charge_id
    )
    await ledger.post(
        session,
        funding.overdrawn(charge_id, nanos=charge.amount_nanos, contract=contract.id, holdings=held, at=now),
    )


OVERDRAWN = "overdrawn"


async def _begin(
    session: AsyncSession, contract: Contract, begun: list[Period], span: Span, *, now: datetime
) -> Turned:
    index = len(begun)
    version = contract.version(index)
    commitment = version.terms.commitment
    committed = 0 if commitment is None else commitment.amount_nanos(index)
    await period_store.open_period(
        session,
        contract.id,
        index=index,
        span=span,
        version=version.number,
        committed_nanos=committed,
        at=now,
    )
    if begun:
        await _close(session, contract, begun[-1], now=now)
    prepaid = version.terms.prepaid
    if prepaid is None:
        return Turned()
    assert contract.wallet is not None, contract.id
    await charges.put(session, [_commitment_charge(contract, index, span, committed, now=now)])
    held = (await wallets.lock(session, [contract.wallet]))[contract.wallet]
    lot = new_id("lot", now)
    await _open_lot(session, contract, lot, committed, span=span, expires_at=span.end, period=index)
    await ledger.post_all(
        session,
        funding.opened(lot=lot, contract=contract.id, nanos=committed, holdings=held, at=span.start),
    )
    overage = prepaid.when_used_up is WhenUsedUp.OVERAGE
    records = await project_store.draw_from_commitment(session, contract, overage=overage)
    return Turned(records, [contract.wallet])


def _commitment_charge(contract: Contract, index: int, span: Span, nanos: int, *, now: datetime) -> Charge:
    return Charge(
        id=new_id("chg", now),
        reference=f"contract:{contract.id}:commitment:{index}",
        organization=contract.organization,
        currency=contract.currency,
        kind=ChargeKind.COMMITMENT,
        recognition=Recognition.ELSEWHERE,
        label=f"{contract.name}: commitment, period {index + 1} of {contract.term.periods}",
        quantity=1,
        unit="period",
        amount_nanos=nanos,
        span=span,
        # Invoiced ahead: by the invoice that ends where the period begins, unless the contract is younger than that.
        happened_at=max(span.start - MICROSECOND, contract.signed_at),
    )


async def _open_lot(
    session: AsyncSession,
    contract: Contract,
    lot: str,
    nanos: int,
    *,
    span: Span,
    expires_at: datetime,
    period: int,
    rolled_from: str | None = None,
) -> None:
    assert contract.wallet is not None, contract.id
    await wallets.open_lot(
        session,
        lot=lot,
        wallet=contract.wallet,
        kind=AccountKind.COMMITMENT,
        currency=contract.currency,
        granted_nanos=nanos,
        at=span.start,
        expires_at=expires_at,
        priority=PRIORITY_DEFAULT if rolled_from is None else ROLLED_PRIORITY,
        source="contract",
        reason=contract.id,
    )
    await period_store.add_lot(session, lot, contract=contract.id, period=period, rolled_from=rolled_from)


async def _close(session: AsyncSession, contract: Contract, period: Period, *, now: datetime) -> None:
    if contract.wallet is not None:
        await _break_or_roll(session, contract, period, now=now)
    await period_store.close_period(session, contract.id, period.index, at=now)


async def _break_or_roll(session: AsyncSession, contract: Contract, period: Period, *, now: datetime) -> None:
    """Whatever the lots that are past their time have left; the period's own may live on where there is a next one."""
    assert contract.wallet is not None, contract.id
    held = (await wallets.lock(session, [contract.wallet]))[contract.wallet]
    of = {lot.id: lot for lot in await period_store.lots(session, contract.id)}
    last = period.span.end - MICROSECOND
    for lot in funding.ended_lots(held.lots, by=period.span.end):
        own = (
            of[lot.id].rolled_from is None and of[lot.id].period == period.index and period.closed_at is None
        )
        prepaid = contract.terms(period.index).prepaid
        goes_on = own and period.index + 1 < contract.term.periods
        rollover = prepaid.rollover if prepaid is not None and goes_on else None
        rest = rest_of(lot.remaining_nanos, rollover)
        transactions = []
        if rest.rolled_nanos:
            assert rollover is not None, lot.id
            into = new_id("lot", now)
            until = min(period.index + rollover.periods, contract.term.periods - 1)
            await _open_lot(
                session,
                contract,
                into,
                rest.rolled_nanos,
                span=contract.term.period(period.index + 1),
                expires_at=contract.term.period(until).end,
                period=period.index + 1,
                rolled_from=lot.id,
            )
            transactions.append(
                funding.rolled(lot, into=into, nanos=rest.rolled_nanos, contract=contract.id, at=last)
            )
        if rest.broken_nanos:
            transactions.append(funding.broken(lot, nanos=rest.broken_nanos, contract=contract.id, at=last))
            # A correction of an earlier period's usage is broken for that period; what rolled over, where it ended.
            broken_for = period.index if of[lot.id].rolled_from is not None else of[lot.id].period
            await period_store.add_broken(session, contract.id, broken_for, rest.broken_nanos)
        await ledger.post_all(session, transactions)


async def _end(session: AsyncSession, contract: Contract, *, now: datetime) -> Turned:
    await store.close(session, contract.id, at=now)
    if contract.wallet is None:
        return Turned()
    await settle_rest(session, contract, now=now)
    return Turned(await project_store.pay_as_before(session, contract), [contract.wallet])
