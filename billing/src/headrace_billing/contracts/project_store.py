"""What a contract's projects pay by while it runs, and what they paid by before: kept, and given back at its end."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store as accounts
from headrace_billing.contracts.contract import Contract


async def draw_from_commitment(session: AsyncSession, contract: Contract, *, overage: bool) -> list[str]:
    """The projects pay by the contract's wallet from the next request on; Valkey keys of their records, to push.

    Called for each period: the first one keeps what they paid by, and a later one may say otherwise of overage.
    """
    await session.execute(KEEP, {"contract": contract.id})
    await session.execute(SWITCH, {"contract": contract.id, "wallet": contract.wallet, "overage": overage})
    return await _written(session, contract.projects)


async def pay_as_before(session: AsyncSession, contract: Contract) -> list[str]:
    await session.execute(RESTORE, {"contract": contract.id})
    return await _written(session, contract.projects)


async def _written(session: AsyncSession, projects: Sequence[str]) -> list[str]:
    return [
        await accounts.write_project(session, await accounts.project(session, project))
        for project in sorted(projects)
    ]


KEEP = text("""
    UPDATE contract_projects c SET disposition_before = p.disposition, wallet_before = p.wallet
    FROM projects p WHERE c.contract = :contract AND p.id = c.project AND c.disposition_before IS NULL
""")
SWITCH = text("""
    UPDATE projects p SET disposition = 'commitment', wallet = :wallet, overage = :overage, version = version + 1
    FROM contract_projects c
    WHERE c.contract = :contract AND p.id = c.project
      AND (p.disposition, p.wallet, p.overage) IS DISTINCT FROM ('commitment', :wallet, CAST(:overage AS boolean))
""")
RESTORE = text("""
    UPDATE projects p
    SET disposition = c.disposition_before, wallet = c.wallet_before, overage = false, version = version + 1
    FROM contract_projects c
    WHERE c.contract = :contract AND p.id = c.project AND c.disposition_before IS NOT NULL
""")
