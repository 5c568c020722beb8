"""The shapes that several routes take or give: names, ids and pages. Whatever Postgres could choke on stops here."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from typing_extensions import TypedDict

PAGE_MAX = 100

# Printable: no control character reaches a log line, an invoice or a text column.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE, strip_whitespace=True)
]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$")]
PinnedModel = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}(@[A-Za-z0-9._:/-]{1,100})?$")
]
"""A model, or `<model>@<revision>` for that revision alone."""
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Amount = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=PRINTABLE)]


class Body(BaseModel):
    """A field that we don't know is a mistake of the caller's, who must hear of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(BaseModel):
    """A part of a list, in the order of creation."""

    after: Id | None = None
    """The `next` of the page before."""
    limit: int

    @property
    def begins_after(self) -> str:
        return self.after or ""


def _page(after: Id | None = None, limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX) -> Page:
    return Page(after=after, limit=limit)


PageOf = Annotated[Page, Depends(_page)]


Item = TypeVar("Item", bound=Mapping[str, Any])


class Listed(TypedDict, Generic[Item]):
    items: list[Item]
    next: str | None


def page_of(items: Sequence[Item], page: Page) -> Listed[Item]:
    """`next` is null on the last page."""
    return {"items": list(items), "next": items[-1]["id"] if len(items) == page.limit else None}
