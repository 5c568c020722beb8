"""Reading records: a TOML file a model, held to the types of `record`, whatever is wrong named by model and field.

A record may lean on another one in two ways. `same_shape_as = "ID"` takes its architecture and dimensions, as
the next release of a model does. `base = "ID"` makes it a fine-tune: everything is inherited but what a
fine-tune has of its own (`OWN`), tables are overridden key by key, and `without` names what the base has and
the fine-tune has not.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace_platform.catalog.profiles import PROFILES
from headrace_platform.catalog.record import Kind, ModelRecord

SHAPE = ("architecture", "architecture_mtp", "shape")
# Its own weights and name; and nobody's price list or test bench speaks of it.
OWN = ("id", "aliases", "revision", "owned_by", "released_at", "weights", "minimums", "price", "licence")

LEANS: Mapping[str, Callable[[str], bool]] = {
    "same_shape_as": lambda field: field in SHAPE,
    "base": lambda field: field not in OWN,
}

KINDS = {kind for profile in PROFILES.values() for kind in profile.kinds}

Table = dict[str, Any]


class Leaning(msgspec.Struct):
    """What a file says of other records; read before the rest of it."""

    same_shape_as: str | None = None
    base: str | None = None
    without: list[str] = []


class RecordWrong(Exception):
    """A record's file can't be used; the message names the model and the field."""

    code = "record_wrong"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"the record of {model} is wrong: {reason}")
        self.model = model


def read_folder(folder: Path) -> list[ModelRecord]:
    """The records of a folder, by name. Raises `RecordWrong`."""
    tables: dict[str, Table] = {}
    for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem):
        try:
            tables[path.stem] = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecordWrong(path.stem, str(error)) from error
    return records(tables)


def records(tables: Mapping[str, Table]) -> list[ModelRecord]:
    """Records from their tables, each under its id. Raises `RecordWrong`."""
    found = [record(name, tables) for name in tables]
    taken: dict[str, str] = {}
    for one in found:
        for name in (one.id, *one.aliases):
            if name in taken:
                raise RecordWrong(one.id, f"`{name}` is also a name of {taken[name]}")
            taken[name] = one.id
    return found


def record(name: str, tables: Mapping[str, Table]) -> ModelRecord:
    try:
        found = msgspec.convert(whole(name, tables), ModelRecord)
    except msgspec.ValidationError as error:
        raise RecordWrong(name, str(error)) from error
    if found.id != name:
        raise RecordWrong(name, f"`id` is {found.id!r}, and the file is named {name}.toml")
    for wrong in contradictions(found):
        raise RecordWrong(name, wrong)
    return found


def whole(name: str, tables: Mapping[str, Table], above: tuple[str, ...] = ()) -> Table:
    """A record's table with what it inherits."""
    if name in above:
        raise RecordWrong(name, f"it leans on itself by way of {' and '.join(above)}")
    leaning = msgspec.convert(tables[name], Leaning)
    inherited: Table = {}
    for field, takes in LEANS.items():
        other = getattr(leaning, field)
        if other is None:
            continue
        if other not in tables:
            raise RecordWrong(name, f"`{field}` is {other!r}, of which there is no record")
        of_other = whole(other, tables, (*above, name))
        inherited |= {key: value for key, value in of_other.items() if takes(key)}
    for field in leaning.without:
        if field not in inherited:
            raise RecordWrong(name, f"`without` names `{field}`, which it does not inherit")
        del inherited[field]
    own = {key: value for key, value in tables[name].items() if key not in ("same_shape_as", "without")}
    return merged(inherited, own)


def merged(under: Table, over: Table) -> Table:
    """`over` laid upon `under`: tables key by key, anything else whole."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = merged(under[key], over[key])
    return both


def contradictions(one: ModelRecord) -> Iterator[str]:
    """What the types can't rule out."""
    formats = [weights.format for weights in one.weights]
    if len(set(formats)) < len(formats):
        yield "`weights` has a format twice"
    for minimum in one.minimums:
        if minimum.format not in formats:
            yield f"`minimums` speaks of {minimum.format}, of which `weights` has none"
        if minimum.profile not in PROFILES:
            yield f"`minimums` speaks of {minimum.profile!r}, which is no profile"
    for kind in one.hardware:
        if kind not in KINDS:
            yield f"`hardware` speaks of {kind!r}, which is no profile, generation or backend"
    if one.unserved is None:
        for field in ("architecture", "shape", "context_tokens"):
            if getattr(one, field) is None:
                yield f"`{field}` is missing, without which it can't be served"
    hearing = one.shape.hearing if one.shape else None
    if one.kind is Kind.TRANSCRIPTION and one.unserved is None and hearing is None:
        yield "`shape.hearing` is missing, without which nothing can be held for a recording"
    if (
        hearing
        and one.context_tokens
        and hearing.seconds_max * 1000 > (one.context_tokens * hearing.token_milliseconds)
    ):
        yield "`shape.hearing.seconds_max` is more than its context has room for"
    if one.parameters_active is not None and one.parameters_active > one.parameters:
        yield "`parameters_active` is above `parameters`"
    if one.context_tokens is not None and one.prompt_overhead_tokens >= one.context_tokens:
        yield "`prompt_overhead_tokens` must be below `context_tokens`"
    if one.thinking and not one.thinking.by_default and one.thinking.switch is None:
        yield "`thinking` is off by default and has no switch"
    if one.thinking and one.thinking.effort_default not in (None, *one.thinking.efforts):
        yield "`thinking.effort_default` is none of its `efforts`"
    if one.price and min(one.price.input, one.price.cached or 0, one.price.output) < 0:
        yield "`price` is below zero"
    experts = one.shape.experts if one.shape else None
    if experts and experts.per_token > experts.routed:
        yield "`shape.experts.per_token` is above `routed`"
    if one.speculation and one.speculation.method == "mtp" and not (one.shape and one.shape.layers_mtp):
        yield "`speculation` drafts with the model's own layer, and `shape.layers_mtp` is 0"
