"""Signing, amending and ending a contract: checked against what stands, written with all that follows at once."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store as accounts
from headrace_billing.contracts import periods, store
from headrace_billing.contracts.bodies import Amendment, Ending, NewContract, written
from headrace_billing.contracts.contract import (
    Contract,
    Version,
    check_amendment,
    check_terms,
    shortened,
)
from headrace_billing.contracts.periods import Turned
from headrace_billing.contracts.rates import publish_rates
from headrace_billing.contracts.term import ContractInvalid, month_of
from headrace_billing.errors import NotFound
from headrace_billing.ids import new_id
from headrace_billing.ledger import wallets
from headrace_billing.money import currency_of


async def sign(session: AsyncSession, body: NewContract, *, now: datetime) -> tuple[Contract, Turned]:
    """Where its term has begun its first period has too. Raises `ContractInvalid`, `ProjectCommitted`, `NotFound`, …"""
    term, terms = body.term, body.terms.terms()
    term.check()
    check_terms(terms, term)
    if term.starts_on < month_of(now):
        raise ContractInvalid(
            "starts_on: a term begins with the running month or later: what was billed stays so."
        )
    await accounts.organization(session, body.organization)
    await _check_projects(session, body)
    await store.check_free(session, body.projects, term)
    wallet = None
    if terms.prepaid is not None:
        wallet = new_id("wal", now)
        await wallets.open_wallet(
            session, wallet=wallet, org=body.organization, currency=currency_of(body.currency), at=now
        )
    contract = Contract(
        id=new_id("ctr", now),
        organization=body.organization,
        name=body.name,
        currency=currency_of(body.currency),
        term=term,
        wallet=wallet,
        signed_at=now,
        versions=(Version(1, term.starts_on, terms),),
        projects=tuple(sorted(set(body.projects))),
    )
    await store.add(session, contract)
    await store.add_version(
        session,
        contract.id,
        number=1,
        effective_on=term.starts_on,
        terms=written(body.terms),
        reason="signed",
        at=now,
    )
    await publish_rates(session, contract, now=now)
    turned = await periods.turn(session, contract, now=now)
    return contract, turned or Turned()


async def amend(session: AsyncSession, contract: Contract, body: Amendment, *, now: datetime) -> Contract:
    """A new version. The contract must be locked. Raises `AmendmentInvalid`, `ContractInvalid`."""
    terms = body.terms.terms()
    check_amendment(contract, effective_on=body.effective_on, terms=terms, now=now)
    number = contract.versions[-1].number + 1
    await store.add_version(
        session,
        contract.id,
        number=number,
        effective_on=body.effective_on,
        terms=written(body.terms),
        reason=body.reason,
        at=now,
    )
    amended = replace(contract, versions=(*contract.versions, Version(number, body.effective_on, terms)))
    # Also where the new terms have no rates any more, and the old ones had.
    await publish_rates(session, amended, now=now)
    return amended


async def end(session: AsyncSession, contract: Contract, body: Ending, *, now: datetime) -> Contract:
    """The term ends earlier. The contract must be locked. Raises `AmendmentInvalid`."""
    term = shortened(contract, ends_on=body.ends_on, now=now)
    await store.shorten(session, contract.id, term)
    ended = replace(contract, term=term)
    await publish_rates(session, ended, now=now, before=contract.term)
    return ended


async def _check_projects(session: AsyncSession, body: NewContract) -> None:
    for name in body.projects:
        project = await accounts.project(session, name)
        if project.org != body.organization:
            raise NotFound("project", name)
        if project.currency != body.currency:
            raise wallets.CurrencyMismatch(project.wallet, project.currency)
