"""What somebody asks of usage: a time, what to tell apart, whose; and the cursor from one page to the next.

Every figure comes from rollups that the transaction of each charge writes, so usage and costs are those of the ledger,
to the nano-unit, in whatever way they are grouped.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from headrace_billing.errors import BillingError


class Dimension(StrEnum):
    ORGANIZATION = "organization"
    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    SESSION = "session"
    TASK = "task"
    END_USER = "end_user"
    """By its hash, which is of one organisation: `headrace_contracts.usage.end_user_of`."""


DAY = timedelta(days=1)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

FINE = frozenset({Dimension.SESSION, Dimension.TASK, Dimension.END_USER})
"""What only the rollups by session tell apart."""


class Granularity(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


UNITS = {Granularity.HOUR: timedelta(hours=1), Granularity.DAY: DAY}
"""Of which a year has too many to read them all for one page."""

HORIZON_GROWTH = 4
"""So that all that is read in vain is a third of what the last look reads, at most."""


class Rollup(StrEnum):
    """Tables from the finest to the coarsest."""

    BY_SESSION = "usage_rollups_by_session"
    BY_HOUR = "usage_rollups"
    BY_DAY = "usage_rollups_by_day"


@dataclass(frozen=True, slots=True)
class Part:
    """A table, and the time that is read from it."""

    rollup: Rollup
    start: datetime
    end: datetime


class QueryTooWide(BillingError):
    """Sessions, tasks and end users of everybody are more than one answer can sort."""

    code = "query_too_wide"

    def __init__(self, narrowing: str = "an organization, a project, a session or a task") -> None:
        super().__init__(
            f"Name {narrowing}: sessions, tasks and end users of everybody are too many for one answer."
        )


class CursorInvalid(BillingError):
    """Not a cursor of this query."""

    code = "cursor_invalid"

    def __init__(self) -> None:
        super().__init__("The cursor is none of this query's: repeat the query as it was, or leave it out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    start: datetime
    end: datetime
    """Exclusive."""
    granularity: Granularity | None = None
    group_by: tuple[Dimension, ...] = ()
    filters: Mapping[Dimension, str] = field(default_factory=dict)
    currency: str | None = None

    @property
    def by_session(self) -> bool:
        return bool(FINE & {*self.group_by, *self.filters})

    def horizons(self, start: datetime, *, limit: int) -> Iterator[datetime]:
        """Ends up to which a page that begins at `start` is looked for, one after the other; the last is the query's.

        What is told apart by time comes in its order, so a page is found in the first hours or days that fill it:
        in one of them, may be, or where nothing else is told apart in one more than the page has places.
        """
        unit = UNITS.get(self.granularity) if self.granularity else None
        if unit is not None:
            began = EPOCH + (start - EPOCH) // unit * unit
            units = 1 if self.group_by else limit + 1
            while (end := began + units * unit) < self.end:
                yield end
                units *= HORIZON_GROWTH
        yield self.end

    def parts(self, start: datetime, end: datetime) -> list[Part]:
        """The coarsest tables that tell what is asked: whole days by the day, hours at the edges."""
        if self.by_session:
            return [Part(Rollup.BY_SESSION, start, end)]
        first_day, last_day = (
            -(-(start - EPOCH) // DAY) * DAY + EPOCH,
            (end - EPOCH) // DAY * DAY + EPOCH,
        )
        if self.granularity is Granularity.HOUR or first_day >= last_day:
            return [Part(Rollup.BY_HOUR, start, end)]
        edges = [Part(Rollup.BY_HOUR, start, first_day), Part(Rollup.BY_HOUR, last_day, end)]
        return [Part(Rollup.BY_DAY, first_day, last_day), *(edge for edge in edges if edge.start < edge.end)]

    @property
    def fingerprint(self) -> str:
        """Changes with everything but the page."""
        content = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def check_width(query: Query) -> None:
    """Raises `QueryTooWide`."""
    narrow = {Dimension.ORGANIZATION, Dimension.PROJECT, *FINE}
    if query.by_session and not narrow & set(query.filters):
        raise QueryTooWide


def cursor_after(fingerprint: str, last: list[str]) -> str:
    """Opaque; it leads to what follows the row that has these values, in a query of that fingerprint."""
    content = json.dumps([fingerprint, *last], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def read_cursor(fingerprint: str, cursor: str, *, values: int) -> list[str]:
    """Raises `CursorInvalid`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError as error:
        raise CursorInvalid from error
    if not isinstance(content, list) or len(content) != values + 1 or content[0] != fingerprint:
        raise CursorInvalid
    if not all(isinstance(value, str) and "\x00" not in value for value in content):
        raise CursorInvalid
    return [str(value) for value in content[1:]]
