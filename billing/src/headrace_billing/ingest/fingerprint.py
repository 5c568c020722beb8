"""What an event says, as 32 bytes: by them a duplicate is told from a conflict.

Equal for equal events, also when one came before a field was added: defaults are left out. The digests stand in
Postgres for good, so what is hashed may never change: fields by name, in order, as JSON.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec


def fingerprint(event: msgspec.Struct) -> bytes:
    return hashlib.sha256(_encode(_without_defaults(event))).digest()


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a type of struct is put into one with the same fields that leaves out defaults when it is encoded."""

    kind: type[msgspec.Struct]
    fields: Callable[[msgspec.Struct], Sequence[Any]]
    """In the order of `kind`."""
    structs: Sequence[int]
    raws: Sequence[tuple[int, str | None]]
    """With their defaults, as text."""


def _without_defaults(value: msgspec.Struct) -> msgspec.Struct:
    shape = _shape(type(value))
    values = list(shape.fields(value))
    for place in shape.structs:
        values[place] = _without_defaults(values[place])
    for place, default in shape.raws:
        text = bytes(values[place]).decode()
        # The very object that is the default: that is how a default is known.
        values[place] = default if text == default else text
    return shape.kind(*values)


@cache
def _shape(kind: type[msgspec.Struct]) -> _Shape:
    """Made once a type, for it takes longer than all the rest."""
    required: list[tuple[str, Any]] = []
    optional: list[tuple[str, Any, Any]] = []
    structs, raws = set(), {}
    for field in msgspec.structs.fields(kind):
        assert field.name == field.encode_name, f"{kind.__name__}.{field.name} has another name on the wire"
        default = field.default
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            structs.add(field.name)
        if field.type is msgspec.Raw:
            default = bytes(default).decode() if isinstance(default, msgspec.Raw) else default
            raws[field.name] = None if field.required else default
        if field.required:
            required.append((field.name, Any))
        elif field.default_factory is not msgspec.NODEFAULT:
            optional.append((field.name, Any, msgspec.field(default_factory=field.default_factory)))
        else:
            optional.append((field.name, Any, default))
    names = [field[0] for field in (*required, *optional)]
    return _Shape(
        msgspec.defstruct(kind.__name__, [*required, *optional], omit_defaults=True),
        attrgetter(*names),
        [names.index(name) for name in structs],
        [(names.index(name), default) for name, default in raws.items()],
    )


_encode = msgspec.json.Encoder(order="sorted").encode
