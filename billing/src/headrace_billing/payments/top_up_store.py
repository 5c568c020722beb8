"""Top-ups in Postgres. `look_at` is when Stripe is asked next; null means that there is nothing more to learn."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.payments.top_up import TopUp, TopUpState, Way

# Long enough for one answer of Stripe's; then another worker may look, too.
CLAIM_SECONDS = 60


async def add(session: AsyncSession, top_up: TopUp, *, look_at: datetime) -> None:
    await session.execute(
        INSERT,
        {
            "id": top_up.id,
            "org": top_up.org,
            "wallet": top_up.wallet,
            "invoice": top_up.invoice,
            "sign_up": top_up.sign_up,
            "currency": top_up.currency,
            "amount_minor": top_up.amount_minor,
            "way": top_up.way,
            "card": top_up.card,
            "save_card": top_up.save_card,
            "state": top_up.state,
            "created_at": top_up.created_at,
            "expires_at": top_up.expires_at,
            "look_at": look_at,
        },
    )


async def lock_org_and_count_waiting(session: AsyncSession, org: str) -> int:
    """The organisation's row is the lock: two top-ups asked for at once are counted one after the other."""
    await session.execute(LOCK_ORG, {"org": org})
    return int((await session.execute(COUNT_WAITING, {"org": org})).scalar_one())


async def find(session: AsyncSession, top_up: str, *, lock: bool = False) -> TopUp:
    """Raises `NotFound`."""
    row = (await session.execute(LOCK if lock else SELECT, {"id": top_up})).mappings().first()
    if row is None:
        raise NotFound("top-up", top_up)
    return _top_up(row)


async def by_payment(session: AsyncSession, payment: str) -> TopUp | None:
    row = (await session.execute(SELECT_BY_PAYMENT, {"payment": payment})).mappings().first()
    return None if row is None else _top_up(row)


async def of_sign_up(session: AsyncSession, sign_up: str) -> TopUp:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_OF_SIGN_UP, {"sign_up": sign_up})).mappings().first()
    if row is None:
        raise NotFound("sign-up", sign_up)
    return _top_up(row)


async def pays_invoice(session: AsyncSession, *, sign_up: str, invoice: str) -> str:
    """The payment of the sign-up, which pays that invoice from now on."""
    paying: str = (await session.execute(SET_INVOICE, {"sign_up": sign_up, "invoice": invoice})).scalar_one()
    return paying


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> Sequence[TopUp]:
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return [_top_up(row) for row in rows.mappings()]


async def opened(
    session: AsyncSession,
    top_up: str,
    *,
    url: str | None,
    checkout: str | None = None,
    payment: str | None = None,
) -> None:
    """Stripe knows it now: by a session on its page, or by a payment."""
    await session.execute(SET_OPENED, {"id": top_up, "session": checkout, "payment": payment, "url": url})


async def close(
    session: AsyncSession,
    top_up: str,
    *,
    state: TopUpState,
    at: datetime,
    reason: str | None = None,
    payment: str | None = None,
    lot: str | None = None,
) -> None:
    """The end of it; only a grant whose fee Stripe has not booked yet is still looked at."""
    await session.execute(
        SET_CLOSED,
        {
            "id": top_up,
            "state": state,
            "at": at,
            "reason": reason,
            "payment": payment,
            "lot": lot,
        },
    )


async def settled(session: AsyncSession, top_up: str) -> None:
    await session.execute(SET_SETTLED, {"id": top_up})


async def claim_due(session: AsyncSession, *, now: datetime, limit: int) -> list[tuple[str, datetime]]:
    """Those to look at now and since when they stand, put off so that no other worker takes them as well."""
    rows = await session.execute(
        CLAIM_DUE, {"now": now, "later": now + timedelta(seconds=CLAIM_SECONDS), "limit": limit}
    )
    return [(row.id, row.created_at) for row in rows]


async def look_again(session: AsyncSession, top_up: str, *, claimed_at: datetime, at: datetime) -> None:
    """Unless a hint came meanwhile: then it is looked at at once."""
    claimed = claimed_at + timedelta(seconds=CLAIM_SECONDS)
    await session.execute(SET_LOOK_AT, {"id": top_up, "claimed": claimed, "at": at})


async def hint(session: AsyncSession, *, ids: Sequence[str], at: datetime) -> None:
    """Something happened to one of these: a session, a payment, or a reference of ours."""
    await session.execute(SET_HINTED, {"ids": list(ids), "at": at})


def _top_up(row: RowMapping) -> TopUp:
    return TopUp(**{**row, "way": Way(row["way"]), "state": TopUpState(row["state"])})


COLUMNS = """
    id, org, wallet, invoice, sign_up, currency, amount_minor, way, card, save_card, state, session, url, payment, lot, reason, settled,
    created_at, expires_at
"""

INSERT = text("""
    INSERT INTO top_ups (id, org, wallet, invoice, sign_up, currency, amount_minor, way, card, save_card, state, created_at, expires_at,
                         look_at)
    VALUES (:id, :org, :wallet, :invoice, :sign_up, :currency, :amount_minor, :way, :card, :save_card, :state, :created_at, :expires_at,
            :look_at)
""")

LOCK_ORG = text("SELECT id FROM organizations WHERE id = :org FOR NO KEY UPDATE")

COUNT_WAITING = text("SELECT count(*) FROM top_ups WHERE org = :org AND state IN ('creating', 'open')")

SELECT = text(f"SELECT {COLUMNS} FROM top_ups WHERE id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM top_ups WHERE id = :id FOR UPDATE")
SELECT_BY_PAYMENT = text(f"SELECT {COLUMNS} FROM top_ups WHERE payment = :payment")

SELECT_OF_SIGN_UP = text(f"SELECT {COLUMNS} FROM top_ups WHERE sign_up = :sign_up")
SET_INVOICE = text("UPDATE top_ups SET invoice = :invoice WHERE sign_up = :sign_up RETURNING id")

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM top_ups
    WHERE id > :after AND (CAST(:org AS text) IS NULL OR org = :org) ORDER BY id LIMIT :limit
""")

SET_OPENED = text("""
    UPDATE top_ups SET state = 'open', session = coalesce(:session, session), payment = coalesce(:payment, payment),
      url = :url
    WHERE id = :id AND state IN ('creating', 'open')
""")

SET_CLOSED = text("""
    UPDATE top_ups SET state = :state, closed_at = :at, reason = :reason, payment = coalesce(:payment, payment),
      lot = :lot, url = NULL, look_at = CASE WHEN :state = 'paid' THEN look_at END
    WHERE id = :id AND state IN ('creating', 'open')
""")

SET_SETTLED = text("UPDATE top_ups SET settled = true, look_at = NULL WHERE id = :id AND state = 'paid'")

CLAIM_DUE = text("""
    UPDATE top_ups SET look_at = :later WHERE id IN (
      SELECT id FROM top_ups WHERE look_at <= :now ORDER BY look_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id, created_at
""")

SET_LOOK_AT = text("UPDATE top_ups SET look_at = :at WHERE id = :id AND look_at = :claimed")

SET_HINTED = text("""
    UPDATE top_ups SET look_at = :at
    WHERE look_at > :at AND (id = ANY(:ids) OR session = ANY(:ids) OR payment = ANY(:ids))
""")
