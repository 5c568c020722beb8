"""Stripe's form bodies: `line_items[0][price_data][currency]=usd` is a list of objects."""

from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl


def decoded(form: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        path = name.replace("]", "").split("[")
        place = found
        for step, _ in pairwise(path):
            place = place.setdefault(step or str(len(place)), {})
        place[path[-1] or str(len(place))] = value
    return {name: _listed(value) for name, value in found.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    members = {name: _listed(each) for name, each in value.items()}
    if members and all(name.isdigit() for name in members):
        return [members[name] for name in sorted(members, key=int)]
    return members
