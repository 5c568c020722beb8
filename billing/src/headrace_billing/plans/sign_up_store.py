"""Sign-ups in Postgres."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.plans.sign_up import SignUp, SignUpState


async def add(session: AsyncSession, sign_up: SignUp) -> None:
    await session.execute(
        INSERT,
        {
            "id": sign_up.id,
            "org": sign_up.org,
            "currency": sign_up.currency,
            "wish": json.dumps(sign_up.wish),
            "amount_minor": sign_up.amount_minor,
            "tax_minor": sign_up.tax_minor,
            "state": sign_up.state,
            "created_at": sign_up.created_at,
        },
    )


async def find(session: AsyncSession, sign_up: str, *, lock: bool = False) -> SignUp:
    """Raises `NotFound`."""
    row = (await session.execute(LOCK if lock else SELECT, {"id": sign_up})).mappings().first()
    if row is None:
        raise NotFound("sign-up", sign_up)
    return _sign_up(row)


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> Sequence[SignUp]:
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return [_sign_up(row) for row in rows.mappings()]


async def end(session: AsyncSession, sign_up: str, state: SignUpState, *, reason: str | None = None) -> None:
    """Of one that is open, without a subscription."""
    await session.execute(SET_ENDED, {"id": sign_up, "state": state, "reason": reason})


async def paid(session: AsyncSession, sign_up: str, *, subscription: str, at: datetime) -> None:
    """Its invoice is waited for, unless there was nothing to pay."""
    await session.execute(SET_PAID, {"id": sign_up, "subscription": subscription, "at": at})


async def settled(session: AsyncSession, sign_up: str, *, invoice: str) -> None:
    await session.execute(SET_SETTLED, {"id": sign_up, "invoice": invoice})


async def to_settle(session: AsyncSession, *, now: datetime, limit: int) -> list[str]:
    return list((await session.execute(SELECT_TO_SETTLE, {"now": now, "limit": limit})).scalars())


async def put_off(session: AsyncSession, sign_up: str, *, until: datetime) -> None:
    await session.execute(SET_LOOK_AT, {"id": sign_up, "at": until})


async def invoice_of(session: AsyncSession, subscription: str) -> str | None:
    """The first that took a charge of the subscription."""
    return (await session.execute(SELECT_INVOICE, {"references": f"{subscription}.%"})).scalar()


def _sign_up(row: RowMapping) -> SignUp:
    return SignUp(**{**row, "state": SignUpState(row["state"])})


COLUMNS = "id, org, currency, wish, amount_minor, tax_minor, state, reason, subscription, invoice, created_at"

INSERT = text("""
    INSERT INTO sign_ups (id, org, currency, wish, amount_minor, tax_minor, state, created_at)
    VALUES (:id, :org, :currency, CAST(:wish AS jsonb), :amount_minor, :tax_minor, :state, :created_at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM sign_ups WHERE id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM sign_ups WHERE id = :id FOR UPDATE")

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM sign_ups
    WHERE id > :after AND (CAST(:org AS text) IS NULL OR org = :org) ORDER BY id LIMIT :limit
""")

SET_ENDED = text("UPDATE sign_ups SET state = :state, reason = :reason WHERE id = :id AND state = 'open'")

SET_PAID = text("""
    UPDATE sign_ups
    SET subscription = :subscription, state = CASE amount_minor WHEN 0 THEN 'settled' ELSE 'paid' END,
        look_at = CASE WHEN amount_minor > 0 THEN CAST(:at AS timestamptz) END
    WHERE id = :id AND state = 'open'
""")

SET_SETTLED = text("""
    UPDATE sign_ups SET state = 'settled', invoice = :invoice, look_at = NULL WHERE id = :id AND state = 'paid'
""")

SELECT_TO_SETTLE = text("SELECT id FROM sign_ups WHERE look_at <= :now ORDER BY look_at LIMIT :limit")

SET_LOOK_AT = text("UPDATE sign_ups SET look_at = :at WHERE id = :id AND state = 'paid'")

SELECT_INVOICE = text("""
    SELECT l.invoice FROM charges c JOIN invoice_lines l ON l.charge = c.id
    WHERE c.reference LIKE :references ORDER BY l.invoice LIMIT 1
""")
