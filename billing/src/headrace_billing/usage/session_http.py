"""Sessions as whoever runs agents in them wants to see them: what each used and cost, and how long its actions took."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.bodies import Id
from headrace_billing.callers import Admin, CallerOf, OrgMember
from headrace_billing.errors import NotFound
from headrace_billing.intervals import IntervalInvalid, interval
from headrace_billing.money import major
from headrace_billing.parts import PartsOf
from headrace_billing.rating.price import nanos_of_attos
from headrace_billing.usage import session_store
from headrace_billing.usage.http import (
    CURSOR_CHARACTERS_MAX,
    LIMIT_MAX,
    Label,
    TokensDocument,
    tokens_document,
)
from headrace_billing.usage.query import (
    CursorInvalid,
    Dimension,
    QueryTooWide,
    cursor_after,
    read_cursor,
)
from headrace_billing.usage.query import Query as UsageQuery
from headrace_billing.usage.session_store import Asked, Latencies, Percentiles
from headrace_contracts.access import KeyScope

router = APIRouter(tags=["usage"], route_class=Answering)

# Percentiles are of single requests, so all of the time's are read: a month's are a matter of seconds.
SPAN_MAX = timedelta(days=31)


class PercentilesDocument(TypedDict):
    p50: float | None
    p95: float | None
    p99: float | None


class CostDocument(TypedDict):
    currency: str
    amount: str
    list_price: str


class SessionDocument(TypedDict):
    project: str
    session: str
    began_at: str
    last_at: str
    requests: int
    completed: int
    tokens: TokensDocument
    action_seconds: PercentilesDocument
    time_to_first_token_seconds: PercentilesDocument
    costs: list[CostDocument]


class SessionsDocument(TypedDict):
    start: str
    end: str
    as_of: str
    items: list[SessionDocument]
    next: str | None


@router.get("/v1/usage/sessions")
async def show_sessions(
    parts: PartsOf,
    caller: CallerOf,
    *,
    start: AwareDatetime,
    end: AwareDatetime,
    organization: Id | None = None,
    project: Id | None = None,
    session: Label | None = None,
    cursor: Annotated[str | None, Query(max_length=CURSOR_CHARACTERS_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
) -> SessionsDocument:
    """Sessions used in [start, end), whole hours of UTC, the last used first.

    `action_seconds` are of completed requests from admission to end, `time_to_first_token_seconds` of streamed ones.
    """
    since, until = interval(start, end)
    if until - since > SPAN_MAX:
        raise IntervalInvalid(f"At most {SPAN_MAX.days} days may lie between start and end.")
    if isinstance(caller, Admin):
        if organization is None and project is None:
            raise QueryTooWide("an organization or a project")
    elif isinstance(caller, OrgMember):
        # What it names was held to its organisation already.
        organization = caller.org
    else:
        caller.require(KeyScope.USAGE_READ)
        if organization not in (None, caller.org):
            raise NotFound("organization", str(organization))
        if project not in (None, caller.project):
            raise NotFound("project", str(project))
        organization, project = caller.org, caller.project
    asked = Asked(organization, project, session, since, until)
    place = _place(asked)
    after = None if cursor is None else _after(read_cursor(place.fingerprint, cursor, values=3))
    async with parts.database.snapshot() as books:
        found = await session_store.sessions(books, asked, after=after, limit=limit + 1)
        page = found[:limit]
        charged = await session_store.charges(books, asked, page)
    last = page[-1] if len(found) > limit else None
    return {
        "start": since.isoformat(),
        "end": until.isoformat(),
        "as_of": parts.now().isoformat(),
        "items": [_item(each, charged.get((each.project, each.session), [])) for each in page],
        "next": None
        if last is None
        else cursor_after(place.fingerprint, [last.last_at.isoformat(), last.project, last.session]),
    }


def _place(asked: Asked) -> UsageQuery:
    """What a cursor must belong to."""
    filters = {
        Dimension.ORGANIZATION: asked.organization,
        Dimension.PROJECT: asked.project,
        Dimension.SESSION: asked.session,
    }
    return UsageQuery(
        start=asked.start,
        end=asked.end,
        group_by=(Dimension.PROJECT, Dimension.SESSION),
        filters={name: value for name, value in filters.items() if value is not None},
    )


def _after(values: list[str]) -> tuple[datetime, str, str]:
    try:
        at = datetime.fromisoformat(values[0])
    except ValueError as error:
        raise CursorInvalid from error
    if at.tzinfo is None:
        raise CursorInvalid
    return at, values[1], values[2]


def _item(found: Latencies, charges: list[tuple[str, int, int]]) -> SessionDocument:
    return {
        "project": found.project,
        "session": found.session,
        "began_at": found.began_at.isoformat(),
        "last_at": found.last_at.isoformat(),
        "requests": found.requests,
        "completed": found.completed,
        "tokens": tokens_document(found.tokens),
        "action_seconds": _seconds(found.duration),
        "time_to_first_token_seconds": _seconds(found.first_token),
        "costs": [
            {
                "currency": currency,
                "amount": major(nanos),
                "list_price": major(nanos_of_attos(attos)),
            }
            for currency, nanos, attos in charges
        ],
    }


def _seconds(milliseconds: Percentiles) -> PercentilesDocument:
    p50, p95, p99 = (
        None if value is None else value / 1000
        for value in (milliseconds.p50, milliseconds.p95, milliseconds.p99)
    )
    return {"p50": p50, "p95": p95, "p99": p99}
