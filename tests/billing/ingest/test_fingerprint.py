"""Digests stand in Postgres for good: what is hashed today is what was hashed by the first release."""

import hashlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.ingest.fingerprint import fingerprint
from headrace_contracts.usage import (
    Dialect,
    Disposition,
    Ending,
    Grade,
    ServiceTier,
    TokenCounts,
    UsageEvent,
)

words = st.text(max_size=6)
counts = st.integers(0, 10**12)
times = st.integers(0, 2**53)
maybe = st.none() | words

usage_events = st.builds(
    UsageEvent,
    id=words,
    grade=st.sampled_from(Grade),
    producer=words,
    boot=words,
    sequence=counts,
    org=words,
    project=words,
    key=words,
    wallet=words,
    currency=words,
    deployment=words,
    model_requested=words,
    model_served=words,
    dialect=st.sampled_from(Dialect),
    session=maybe,
    task=maybe,
    task_attempt=maybe,
    received_at_us=times,
    first_token_at_us=st.none() | times,
    finished_at_us=times,
    ending=st.sampled_from(Ending),
    attempts=st.integers(0, 3) | counts,
    tokens=st.builds(TokenCounts, **{name: st.just(0) | counts for name in TokenCounts.__struct_fields__}),
    other_units=st.dictionaries(words, counts, max_size=2),
    engine_usage=st.sampled_from([b"null", b'{"a": 1}', b"0"]).map(msgspec.Raw),
    price_book=words,
    disposition=st.sampled_from(Disposition),
    service_tier=st.sampled_from(ServiceTier),
    revision=maybe,
    end_user=maybe,
    trace=maybe,
)


def slow_fingerprint(event: UsageEvent) -> bytes:
    """As the first release had it: every field that is not its default, field by field."""
    return hashlib.sha256(msgspec.json.encode(without_defaults(event), order="deterministic")).digest()


def without_defaults(value: msgspec.Struct) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(value)):
        member = text_of(getattr(value, field.name))
        default = text_of(
            field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        )
        if isinstance(member, msgspec.Struct):
            content[field.encode_name] = without_defaults(member)
        elif member != default:
            content[field.encode_name] = member
    return content


def text_of(value: Any) -> Any:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value


@given(usage_events)
def test_an_event_has_the_digest_that_every_release_gave_it(event: UsageEvent) -> None:
    assert fingerprint(event) == slow_fingerprint(event)


@given(usage_events)
def test_an_event_keeps_its_digest_on_the_wire(event: UsageEvent) -> None:
    again = msgspec.json.decode(msgspec.json.encode(event), type=UsageEvent)
    assert fingerprint(again) == fingerprint(event)


@given(usage_events, usage_events)
def test_events_that_differ_have_other_digests(one: UsageEvent, other: UsageEvent) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
