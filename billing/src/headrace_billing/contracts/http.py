"""Routes for contracts: the seller signs, amends and ends them; the customer reads where they stand."""

from datetime import date, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.answers import Answering
from headrace_billing.bodies import Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.contracts import period_store, signing, store, used_store
from headrace_billing.contracts.assessing import Fees, fees_by_month
from headrace_billing.contracts.bodies import PERIODS_MAX, Amendment, Ending, NewContract
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.documents import (
    AmendedDocument,
    BurnDownDocument,
    ContractDocument,
    ContractSummary,
    GpuTimeDocument,
    StandingDocument,
    burn_down_document,
    gpu_document,
    periods_document,
    standing_document,
    summary,
)
from headrace_billing.contracts.standing import Standing, standing
from headrace_billing.contracts.term import month_of, month_span
from headrace_billing.errors import NotFound
from headrace_billing.idempotency import recall, remember
from headrace_billing.ledger import spendable
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.rating.jobs import Written, put_due_into_force
from headrace_billing.valkey import ValkeyError

Month = Annotated[str, Query(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$")]
Period = Annotated[int | None, Query(ge=0, le=PERIODS_MAX)]
ContractId = Annotated[Id, Path()]

log = structlog.get_logger()
router = APIRouter(tags=["contracts"], dependencies=[AdminOnly], route_class=Answering)


@router.post("/v1/contracts", status_code=201)
async def sign_contract(
    body: NewContract, parts: PartsOf, idempotency_key: IdempotencyKey
) -> ContractSummary:
    """Where its term has begun, it bills from now on."""
    at, once = parts.now(), {"scope": "contracts", "key": idempotency_key}
    written, records = Written(), list[str]()
    async with parts.database.begin() as session:
        answer: ContractSummary | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            contract, turned = await signing.sign(session, body, now=at)
            written, records = await put_due_into_force(session, at=at), turned.records
            answer = summary(contract, now=at)
            await remember(session, **once, answer=answer)
    if answer["wallet"] is not None:
        # Before the projects that are to find it.
        await spendable.push_soon(parts.database, parts.valkey, answer["wallet"])
    await _push(parts, written, records)
    return answer


@router.get("/v1/contracts")
async def list_contracts(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[ContractSummary]:
    async with parts.database.begin() as session:
        found = await store.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([summary(contract, now=parts.now()) for contract in found], page)


@router.get("/v1/contracts/{contract_id}")
async def show_contract(contract_id: ContractId, parts: PartsOf) -> ContractDocument:
    """With every version of its terms, and its periods with what became of their commitment."""
    async with parts.database.snapshot() as session:
        contract = await store.read(session, contract_id)
        versions = await store.documents(session, contract_id)
        periods = await period_store.periods(session, contract_id)
        lots = await period_store.lots(session, contract_id)
    return {
        **summary(contract, now=parts.now()),
        "versions": versions,
        "periods": periods_document(periods, lots),
    }


@router.post("/v1/contracts/{contract_id}/amendments", status_code=201)
async def amend_contract(
    contract_id: ContractId, body: Amendment, parts: PartsOf, idempotency_key: IdempotencyKey
) -> AmendedDocument:
    """New terms from the beginning of a later period on; the running one keeps its own."""
    at, once = parts.now(), {"scope": f"amend {contract_id}", "key": idempotency_key}
    written = Written()
    async with parts.database.begin() as session:
        answer: AmendedDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            contract = await store.lock(session, contract_id)
            amended = await signing.amend(session, contract, body, now=at)
            written = await put_due_into_force(session, at=at)
            answer = {"contract": contract_id, "version": amended.versions[-1].number}
            await remember(session, **once, answer=answer)
    await _push(parts, written, [])
    return answer


@router.post("/v1/contracts/{contract_id}/end")
async def end_contract(
    contract_id: ContractId, body: Ending, parts: PartsOf, idempotency_key: IdempotencyKey
) -> ContractSummary:
    """The term ends where one of its periods ends, earlier than was signed."""
    at, once = parts.now(), {"scope": f"end {contract_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer: ContractSummary | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            ended = await signing.end(session, await store.lock(session, contract_id), body, now=at)
            answer = summary(ended, now=at)
            await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/contracts/{contract_id}/standing")
async def show_standing(contract_id: ContractId, parts: PartsOf, period: Period = None) -> StandingDocument:
    """Of the running period unless another is named; what is projected goes on as so far."""
    at = parts.now()
    async with parts.database.snapshot() as session:
        contract = await store.read(session, contract_id)
        found = await _standing(session, contract, _index(contract, period, at), now=at)
    return {
        "contract": contract_id,
        "currency": contract.currency,
        "commitment": None if found is None else standing_document(found),
    }


@router.get("/v1/contracts/{contract_id}/burn-down")
async def show_burn_down(contract_id: ContractId, parts: PartsOf, period: Period = None) -> BurnDownDocument:
    """By day, for a chart: what was used, and what that left."""
    at = parts.now()
    async with parts.database.snapshot() as session:
        contract = await store.read(session, contract_id)
        index = _index(contract, period, at)
        found = await _standing(session, contract, index, now=at)
        days = await used_store.by_day(session, contract, contract.term.period(index))
    whole = 0 if found is None else found.committed_nanos + found.rolled_in_nanos
    return {
        "contract": contract_id,
        "currency": contract.currency,
        "period": index,
        "items": burn_down_document(days, whole_nanos=whole),
    }


@router.get("/v1/contracts/{contract_id}/gpu-time")
async def preview_gpu_time(
    contract_id: ContractId, parts: PartsOf, month: Month | None = None
) -> GpuTimeDocument:
    """What a month's GPU time comes to by the contract's rates; preliminary while the month runs."""
    at = parts.now()
    async with parts.database.snapshot() as session:
        contract = await store.read(session, contract_id)
        of = month_of(at) if month is None else date.fromisoformat(f"{month}-01")
        fees = await fees_of(session, contract, of)
    return gpu_document(of, fees, preliminary=month_span(of).end > at)


async def fees_of(session: AsyncSession, contract: Contract, month: date) -> Fees:
    """Raises `NotFound` for a month outside of the term."""
    if month not in contract.term.every_month():
        raise NotFound("month of the contract", f"{month:%Y-%m}")
    span = month_span(month)
    return (await fees_by_month(session, contract, since=span.start, until=span.end))[month]


def _index(contract: Contract, period: int | None, at: datetime) -> int:
    """Raises `NotFound`."""
    if period is None:
        return contract.period_at(at)
    if period >= contract.term.periods:
        raise NotFound("period of the contract", str(period))
    return period


async def _standing(
    session: AsyncSession, contract: Contract, index: int, *, now: datetime
) -> Standing | None:
    if contract.terms(index).commitment is None:
        return None
    # GPU time counts against no commitment.
    fees = await fees_by_month(session, contract, since=contract.term.ends_at, until=now)
    periods = await period_store.periods(session, contract.id)
    lots = await period_store.lots(session, contract.id)
    return standing(contract, fees, periods, lots, index=index, now=now)


async def _push(parts: Parts, written: Written, records: list[str]) -> None:
    """What can't be told now the worker's loops tell."""
    try:
        await written.push(parts.database, parts.valkey)
        await outbox.push(parts.database, parts.valkey, records)
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", records=records, error=type(error).__name__)
