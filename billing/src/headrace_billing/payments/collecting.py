"""Collecting what is due: the schedule, step by step, each in a transaction of its own."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.accounts.pausing import set_paused
from headrace_billing.errors import BillingError
from headrace_billing.invoicing.amounts import plain
from headrace_billing.ledger import notices
from headrace_billing.payments import customer_store, dues, dunning_store, top_up_store, topping_up
from headrace_billing.payments.bounds import TooManyOpenTopUps, TopUpCurrencyUnsupported, takes
from headrace_billing.payments.dues import Due
from headrace_billing.payments.dunning import LOOK_EACH, Dunning, DunningState, Step, may_charge
from headrace_billing.payments.till import Till
from headrace_billing.payments.top_up import TopUp, Way
from headrace_billing.payments.topping_up import Wish
from headrace_billing.valkey import ValkeyError

NEW_MAX = 500
STEPS_MAX = 100


class NothingDue(BillingError):
    """The invoice is paid, or never had anything to pay."""

    code = "nothing_due"

    def __init__(self, number: str) -> None:
        super().__init__(f"{number} has nothing left to pay.")


class PaymentWaits(BillingError):
    """Two at once would pay the invoice twice."""

    code = "payment_waits"

    def __init__(self, number: str) -> None:
        super().__init__(
            f"A payment of {number} waits already, or is in doubt: finish or cancel it first (GET /v1/top-ups)."
        )


async def note_payment(
    session: AsyncSession, invoice: str, *, way: Way, card: str | None, at: datetime
) -> TopUp:
    """Of all that is open.

    Raises `NotFound`, `NothingDue`, `PaymentWaits`, `TooManyOpenTopUps` and `TopUpCurrencyUnsupported`.
    """
    due = await dues.due(session, invoice, lock=True)
    if not takes(due.currency, way):
        raise TopUpCurrencyUnsupported(due.currency, way)
    if due.open_minor == 0:
        raise NothingDue(due.number)
    if await dunning_store.payment_waits(session, invoice):
        raise PaymentWaits(due.number)
    return await topping_up.note(session, _wish(due, way=way, card=card), at=at)


async def dun(till: Till, *, now: datetime) -> int:
    """How many steps were done."""
    async with till.database.begin() as session:
        await dunning_store.begin(session, limit=NEW_MAX)
    done = 0
    while done < STEPS_MAX and await _step(till, now=now):
        done += 1
    if done:
        # The worker's own loop does it within half a second where Valkey does not answer now.
        with suppress(ValkeyError):
            await outbox.push_waiting(till.database, till.valkey)
    return done


async def stop(till: Till, invoice: str) -> Dunning:
    """Raises `NotFound`. The organisation's service goes on unless another invoice holds it."""
    async with till.database.begin() as session:
        await dunning_store.find(session, invoice)
        await dunning_store.end(session, invoice, DunningState.STOPPED)
        stopped = await dunning_store.find(session, invoice)
    with suppress(ValkeyError):
        await outbox.push_waiting(till.database, till.valkey)
    return stopped


async def _step(till: Till, *, now: datetime) -> bool:
    async with till.database.begin() as session:
        dunning = await dunning_store.next_due(session, now=now)
        if dunning is None:
            return False
        due = await dues.due(session, dunning.invoice)
        if due.open_minor == 0:
            await dunning_store.end(session, dunning.invoice, DunningState.PAID)
            return True
        step = dunning.next_step(now)
        if step is None:
            later = max(now + LOOK_EACH, dunning.due_at)
            await dunning_store.save(session, replace(dunning, next_at=later))
            return True
        await _do(session, dunning, step, due, now=now)
    return True


async def _do(session: AsyncSession, dunning: Dunning, step: Step, due: Due, *, now: datetime) -> None:
    await dunning_store.save(
        session,
        replace(
            dunning,
            state=DunningState.PAUSED if step.pauses else dunning.state,
            step=dunning.step + 1,
            next_at=dunning.after_step(now),
        ),
    )
    if step.pauses:
        await set_paused(session, due.org, paused=True)
    content = {
        "invoice": due.invoice,
        "number": due.number,
        "amount": plain(due.open_minor, due.currency),
        "currency": due.currency,
        "due_at": dunning.due_at.isoformat(),
    }
    await notices.tell(session, org=due.org, kind=step.notice, at=now, content=content)
    card = await customer_store.default_card(session, due.org)
    if card is None or not takes(due.currency, Way.CARD):
        return
    if await dunning_store.payment_waits(session, due.invoice):
        return
    if may_charge(card, await dunning_store.last_try(session, due.invoice)):
        with suppress(
            TooManyOpenTopUps
        ):  # the customer is about to pay something else; the next step tries again
            payment = await topping_up.note(session, _wish(due, way=Way.CARD, card=card), at=now)
            await top_up_store.hint(session, ids=[payment.id], at=now)


def _wish(due: Due, *, way: Way, card: str | None) -> Wish:
    return Wish(
        org=due.org,
        invoice=due.invoice,
        currency=due.currency,
        amount_minor=due.open_minor,
        way=way,
        card=card,
    )
