"""What routes answer with, as the OpenAPI document tells it: made from the very types that the routes return.

An answer is not held to its type as it goes out. Those of years ago, such as an invoice's document or what is repeated
for an `Idempotency-Key`, lack members that came later, and nobody is refused them for that. mypy holds what is made now,
and the tests hold every answer that they see.
"""

from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from typing_extensions import is_typeddict

TEMPLATE = "#/components/schemas/{model}"


class Answering(APIRoute):
    """A route whose answers are documented by its function's return type, one for each status that is a success."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        if _answers(endpoint):
            options["response_model"] = Any
        super().__init__(path, endpoint, **options)


def answer_schemas(
    routers: Iterable[APIRouter],
) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], dict[str, Any]]:
    """By path and method the schemas of its answers, in the order of their statuses; and what they refer to."""
    adapters: dict[tuple[str, str, int], TypeAdapter[Any]] = {}
    for router in routers:
        for route in router.routes:
            if isinstance(route, Answering):
                for method in route.methods or ():
                    for number, answer in enumerate(_answers(route.endpoint)):
                        adapters[route.path, method.lower(), number] = TypeAdapter(answer)
    schemas, rest = TypeAdapter.json_schemas(
        [(key, "serialization", adapter) for key, adapter in adapters.items()], ref_template=TEMPLATE
    )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path, method, number in adapters:
        schema = schemas[(path, method, number), "serialization"]
        found.setdefault((path, method), []).append(schema)
    return found, rest.get("$defs", {})


def _answers(endpoint: Any) -> Sequence[Any]:
    """One for each status; none where it returns something else."""
    returned = get_type_hints(endpoint, include_extras=True)["return"]
    every = get_args(returned) if get_origin(returned) in (Union, UnionType) else (returned,)
    return [one for one in every if is_typeddict(get_origin(one) or one)]
