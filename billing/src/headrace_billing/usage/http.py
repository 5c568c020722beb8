"""What was used and what it cost, for whoever used it: a key sees its project, a member its organisation, the seller everybody."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, StringConstraints
from typing_extensions import TypedDict

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import PRINTABLE, Currency, Id, ModelName
from headrace_billing.callers import Admin, Caller, CallerOf, OrgMember
from headrace_billing.errors import InvalidRequest, NotFound
from headrace_billing.intervals import interval
from headrace_billing.money import major
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.rating.price import nanos_of_attos
from headrace_billing.usage import query as asked
from headrace_billing.usage import store
from headrace_billing.usage.query import Dimension, Granularity, check_width
from headrace_billing.usage.store import Sums
from headrace_contracts.access import KeyScope
from headrace_contracts.usage import TokenCounts, end_user_of

LIMIT_MAX = 1000
CURSOR_CHARACTERS_MAX = 4000

router = APIRouter(tags=["usage"], route_class=Answering)

Label = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
"""Of a session or task, as clients name them."""

# Gateways take an id of any length and characters; this one must fit into a line of a request.
EndUser = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class PlaceDocument(TypedDict, total=False):
    """As far as it was asked for."""

    starts_at: str
    organization: str | None
    project: str | None
    key: str | None
    model: str | None
    session: str | None
    task: str | None
    end_user: str | None


class TokensDocument(TypedDict):
    input_uncached: int
    cache_read: int
    cache_write: int
    output_visible: int
    reasoning: int
    total: int


class UsageOfPlace(PlaceDocument):
    requests: int
    tokens: TokensDocument


class CostsOfPlace(PlaceDocument):
    currency: str
    amount: str
    list_price: str
    requests: int


class UsageDocument(TypedDict):
    start: str
    end: str
    as_of: str
    items: list[UsageOfPlace]
    next: str | None


class CostsDocument(TypedDict):
    start: str
    end: str
    as_of: str
    items: list[CostsOfPlace]
    next: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    query: asked.Query
    cursor: str | None
    limit: int


async def _asked(
    caller: CallerOf,
    parts: PartsOf,
    *,
    start: AwareDatetime,
    end: AwareDatetime,
    granularity: Granularity | None = None,
    group_by: Annotated[list[Dimension], Query(max_length=len(Dimension))] = [],  # noqa: B006
    organization: Id | None = None,
    project: Id | None = None,
    key: Id | None = None,
    model: ModelName | None = None,
    session: Label | None = None,
    task: Label | None = None,
    end_user: EndUser | None = None,
    currency: Currency | None = None,
    cursor: Annotated[str | None, Query(max_length=CURSOR_CHARACTERS_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
) -> Asked:
    """Usage of [start, end), which are whole hours of UTC. Raises what `BillingError` the caller can cause.

    `end_user` is the id as clients send it: hashed here as gateways do, it is found and not kept.
    """
    filters = {
        Dimension.ORGANIZATION: organization,
        Dimension.PROJECT: project,
        Dimension.KEY: key,
        Dimension.MODEL: model,
        Dimension.SESSION: session,
        Dimension.TASK: task,
    }
    allowed = _allowed(caller, {name: value for name, value in filters.items() if value is not None})
    if end_user is not None:
        allowed[Dimension.END_USER] = end_user_of(await _org_of(caller, parts, allowed), end_user)
    since, until = interval(start, end)
    query = asked.Query(
        start=since,
        end=until,
        granularity=granularity,
        group_by=tuple(dict.fromkeys(group_by)),
        filters=allowed,
        currency=currency,
    )
    check_width(query)
    return Asked(query, cursor, limit)


def _allowed(caller: Caller, filters: dict[Dimension, str]) -> dict[Dimension, str]:
    """A key's project, or a member's organisation, is added to whatever is asked for, and no other one can be."""
    if isinstance(caller, Admin):
        return filters
    if isinstance(caller, OrgMember):
        return {**filters, Dimension.ORGANIZATION: caller.org}
    caller.require(KeyScope.USAGE_READ)
    if Dimension.ORGANIZATION in filters and filters[Dimension.ORGANIZATION] != caller.org:
        raise NotFound("organization", filters[Dimension.ORGANIZATION])
    if Dimension.PROJECT in filters and filters[Dimension.PROJECT] != caller.project:
        raise NotFound("project", filters[Dimension.PROJECT])
    return {**filters, Dimension.PROJECT: caller.project}


async def _org_of(caller: Caller, parts: Parts, filters: dict[Dimension, str]) -> str:
    """Whose end user is asked for. Raises `InvalidRequest` where that is not said."""
    if not isinstance(caller, Admin):
        return caller.org
    if Dimension.ORGANIZATION in filters:
        return filters[Dimension.ORGANIZATION]
    if Dimension.PROJECT not in filters:
        raise InvalidRequest("end_user: name the organization, or the project, whose user that is.")
    async with parts.database.begin() as session:
        return (await accounts.project(session, filters[Dimension.PROJECT])).org


AskedFor = Annotated[Asked, Depends(_asked)]


@router.get("/v1/usage")
async def show_usage(parts: PartsOf, asked_for: AskedFor) -> UsageDocument:
    """Requests and tokens, by hour, day or month and by whatever `group_by` names. Fresh to the last ingested batch."""
    return cast("UsageDocument", await _page(parts, asked_for, _usage, by_currency=False))


@router.get("/v1/costs")
async def show_costs(parts: PartsOf, asked_for: AskedFor) -> CostsDocument:
    """What was charged for tokens, as the ledger has it, and what it was worth at list price, by currency.

    What closing a month's account added belongs to no key, session, task or end user, and to the month's last hour.
    """
    return cast("CostsDocument", await _page(parts, asked_for, _costs, by_currency=True))


async def _page(
    parts: Parts, asked_for: Asked, render: Callable[[Sums], dict[str, Any]], *, by_currency: bool
) -> dict[str, Any]:
    query = asked_for.query
    async with parts.database.snapshot() as session:
        page = await store.sums(
            session, query, by_currency=by_currency, after=asked_for.cursor, limit=asked_for.limit
        )
    return {
        "start": query.start.isoformat(),
        "end": query.end.isoformat(),
        "as_of": parts.now().isoformat(),
        "items": [{**_place(sums), **render(sums)} for sums in page.items],
        "next": page.cursor,
    }


def _place(sums: Sums) -> dict[str, Any]:
    began = {} if sums.starts_at is None else {"starts_at": sums.starts_at.isoformat()}
    return {**began, **{dimension.value: value or None for dimension, value in sums.of.items()}}


def _usage(sums: Sums) -> dict[str, Any]:
    return {"requests": sums.requests, "tokens": tokens_document(sums.tokens)}


def tokens_document(tokens: TokenCounts) -> TokensDocument:
    return {
        "input_uncached": tokens.input_uncached,
        "cache_read": tokens.cache_read,
        "cache_write": tokens.cache_write,
        "output_visible": tokens.output_visible,
        "reasoning": tokens.reasoning,
        "total": tokens.total,
    }


def _costs(sums: Sums) -> dict[str, Any]:
    return {
        "currency": sums.currency,
        "amount": major(sums.charge_nanos),
        "list_price": major(nanos_of_attos(sums.list_attos)),
        "requests": sums.requests,
    }
