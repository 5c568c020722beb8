"""What an outside meter sends: a CloudEvent whose data is the tokens of one request, or of many that it has added up.

Attributes that we don't know are left alone, because brokers add their own on the way; a field of the data that we
don't know is refused, because whoever sent it means something by it.
"""

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from headrace_billing.ingest.arrival import (
    EPOCH,
    LABEL_BYTES_MAX,
    MICROSECOND,
    TOKENS_MAX,
    plausible,
)
from headrace_billing.meters.meter import Meter
from headrace_contracts.usage import ServiceTier

EVENT_TYPE = "dev.headrace.usage.tokens.v1"
ATTRIBUTE_CHARACTERS_MAX = 200
NAMESPACE = UUID("6d4f0c7e-58f3-5b0e-9a2c-0d6a5b1e7c11")
"""Of the ids that readings get in the books; any fixed one, for good."""

SEQUENCE = re.compile(r"[1-9][0-9]{0,17}")
"""Below what a bigint holds."""

TokenCount = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class ItemCode(StrEnum):
    """Why an item was refused; a code never changes once released."""

    MALFORMED = "malformed"
    TYPE_UNKNOWN = "type_unknown"
    ATTRIBUTE_INVALID = "attribute_invalid"
    UNKNOWN_FIELD = "unknown_field"
    QUANTITY_INVALID = "quantity_invalid"
    TIME_IN_THE_FUTURE = "time_in_the_future"
    TOO_LATE = "too_late"
    TOO_OLD = "too_old"
    UNKNOWN_PROJECT = "unknown_project"
    UNKNOWN_KEY = "unknown_key"
    NOT_PRICED = "not_priced"


class Refused(NamedTuple):
    """Nothing was stored or posted for it; the sender hears why, and may send it again once that is mended."""

    code: ItemCode
    detail: str


class TokensRead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Each token in one class only: `input_uncached`, `cache_read` and `cache_write` add up to the input."""

    input_uncached: TokenCount = 0
    cache_read: TokenCount = 0
    cache_write: TokenCount = 0
    output_visible: TokenCount = 0
    reasoning: TokenCount = 0


class Used(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The data of a CloudEvent of type `dev.headrace.usage.tokens.v1`."""

    project: str
    model: str
    tokens: TokensRead
    key: str | None = None
    """The API key that it was used with, where the meter knows."""
    session: str | None = None
    service_tier: ServiceTier = ServiceTier.STANDARD


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """https://github.com/cloudevents/spec, version 1.0, in the JSON format."""

    specversion: str
    id: str
    source: str
    type: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    """When the tokens were used; decides the price, the month and the invoice."""
    data: msgspec.Raw
    datacontenttype: str | None = None
    sequence: str | None = None
    """The event's number among those of its source: 1, 2, 3, … in decimal digits. Gaps are looked for."""


class Reading(NamedTuple):
    source: str
    id: str
    request: str
    """Its id in the books."""
    time_us: int
    sequence: int
    """0 where the meter doesn't number its events."""
    used: Used
    payload_hash: bytes


class Item(NamedTuple):
    """One of a batch, as far as it could be read."""

    id: str
    source: str
    found: Reading | Refused


class _Named(msgspec.Struct):
    id: Any = ""
    source: Any = ""


class _Content(msgspec.Struct, omit_defaults=True):
    """What must be the same when an event comes again; brokers' attributes are no part of it."""

    id: str
    source: str
    time_us: int
    sequence: int
    used: Used


_decode_event = msgspec.json.Decoder(CloudEvent).decode
_decode_used = msgspec.json.Decoder(Used).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def read(raw: bytes, meter: Meter) -> Item:
    """Never raises: whatever is wrong with one item is that item's."""
    try:
        event = _decode_event(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Item(*_named(raw), Refused(ItemCode.MALFORMED, f"It is no CloudEvent: {error}"))
    named = event.id[:ATTRIBUTE_CHARACTERS_MAX], event.source[:ATTRIBUTE_CHARACTERS_MAX]
    return Item(*named, _attributes_refused(event) or _read_data(event, meter))


def _named(raw: bytes) -> tuple[str, str]:
    """Id and source, as far as they can be told, so that the sender finds the item again."""
    try:
        named = _decode_named(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "", ""
    return _shown(named.id), _shown(named.source)


def _shown(attribute: object) -> str:
    return attribute[:ATTRIBUTE_CHARACTERS_MAX] if isinstance(attribute, str) else ""


def _attributes_refused(event: CloudEvent) -> Refused | None:
    if event.specversion != "1.0":
        return Refused(ItemCode.ATTRIBUTE_INVALID, "specversion: only 1.0 is spoken here.")
    if event.type != EVENT_TYPE:
        return Refused(ItemCode.TYPE_UNKNOWN, f"type: only {EVENT_TYPE} is known.")
    for name, attribute in (("id", event.id), ("source", event.source)):
        if not 1 <= len(attribute) <= ATTRIBUTE_CHARACTERS_MAX or not attribute.isprintable():
            return Refused(
                ItemCode.ATTRIBUTE_INVALID,
                f"{name}: 1 to {ATTRIBUTE_CHARACTERS_MAX} printable characters.",
            )
    if event.datacontenttype not in (None, "application/json"):
        return Refused(ItemCode.ATTRIBUTE_INVALID, "datacontenttype: only application/json is read.")
    if event.sequence is not None and not SEQUENCE.fullmatch(event.sequence):
        return Refused(
            ItemCode.ATTRIBUTE_INVALID, "sequence: decimal digits, from 1 on, without leading zeros."
        )
    if not plausible((event.time - EPOCH) // MICROSECOND):
        return Refused(ItemCode.ATTRIBUTE_INVALID, "time: not within this century's accounts.")
    return None


def _read_data(event: CloudEvent, meter: Meter) -> Reading | Refused:
    try:
        used = _decode_used(event.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return _data_refused(str(error))
    for name in ("project", "model", "key", "session"):
        label: str | None = getattr(used, name)
        if label is not None and (not label.isprintable() or len(label.encode()) > LABEL_BYTES_MAX):
            return Refused(
                ItemCode.ATTRIBUTE_INVALID,
                f"data.{name}: at most {LABEL_BYTES_MAX} bytes of printable characters.",
            )
    sequence = int(event.sequence or 0)
    time_us = (event.time - EPOCH) // MICROSECOND
    content = _Content(event.id, event.source, time_us, sequence, used)
    return Reading(
        event.source,
        event.id,
        str(uuid5(NAMESPACE, f"{meter.id}\n{event.source}\n{event.id}")),
        time_us,
        sequence,
        used,
        hashlib.sha256(_encode(content)).digest(),
    )


def _data_refused(problem: str) -> Refused:
    """By where it lies: the decoder says so at the end of its sentence."""
    if "unknown field" in problem:
        return Refused(ItemCode.UNKNOWN_FIELD, f"data: {problem}")
    if "$.tokens." in problem:
        return Refused(ItemCode.QUANTITY_INVALID, f"data: {problem}")
    return Refused(ItemCode.MALFORMED, f"data: {problem}")
