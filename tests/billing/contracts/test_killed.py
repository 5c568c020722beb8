"""A turn of a period, and a look at what is due, killed after any of their statements: done once, and whole."""

import pytest
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.ledger import store
from tests.billing.contracts.desk import POSTPAID, PREPAID, Desk
from tests.billing.seller import Document
from tests.billing.test_killed_jobs import killed_until_done

ROLLS = {"commitment": {**PREPAID, "rollover": {"share": "0.5"}}}
OWES = {"commitment": POSTPAID, "minimum_monthly": "120.00"}


@pytest.mark.parametrize(
    ("step", "terms", "charges", "lots"),
    [
        ("contract_periods", ROLLS, ["90.00", "90.00"], ["45.00", "90.00", "90.00"]),
        ("contract_dues", OWES, ["120.00", "90.00"], []),
    ],
)
async def test_a_job_killed_after_any_statement_has_done_its_work_once(
    desk: Desk,
    database: Database,
    database_url: str,
    valkey_url: str,
    *,
    step: str,
    terms: Document,
    charges: list[str],
    lots: list[str],
) -> None:
    await desk.sign(starts_on="2026-11-01", months=2, terms=terms)
    assert await killed_until_done(step, database_url, valkey_url, desk.shop.customer) > 2
    assert [amount for _, amount in await desk.charges()] == charges
    async with database.begin() as session:
        granted = await session.execute(
            text("SELECT granted_nanos / 1000000000 FROM credit_lots WHERE kind = 'commitment' ORDER BY 1")
        )
        assert [f"{one:.2f}" for one in granted.scalars()] == lots
        assert await store.rebuild(session) == []
        assert set((await store.trial_balance(session)).by_currency.values()) <= {0}
