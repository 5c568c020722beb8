"""What may stand in a request's query: what its route declares.

A filter that nobody knows narrows nothing, and whoever misspelt one would take everybody's figures for those of one.
"""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from headrace_billing.errors import InvalidRequest


def check_query(request: Request) -> None:
    """Raises `InvalidRequest` for a parameter that the route doesn't have, and names those that it has."""
    given = request.query_params.keys()
    if not given:
        return
    declared = set(_declared(request.scope["route"].dependant))
    unknown = sorted(given - declared)
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        raise InvalidRequest(f"This has no query parameter {unknown[0]!r}. Those that it has: {known}.")


def _declared(dependant: Dependant) -> Iterator[str]:
    """By the route's function, and by what it depends on."""
    for field in dependant.query_params:
        yield field.alias
    for each in dependant.dependencies:
        yield from _declared(each)
