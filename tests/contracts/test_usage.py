"""Shapes that were ever sent stay readable: billing meets gateways of older releases, and old journals."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.engine import EngineEnding, decode_record
from headrace_contracts.usage import (
    Ending,
    Grade,
    ServiceTier,
    TokenCounts,
    attempt_id,
    decode_event,
    encode_event,
    request_of_attempt,
)

GOLDEN = Path(__file__).parent / "golden"


def test_an_event_of_the_first_release_is_read_whole() -> None:
    event = decode_event((GOLDEN / "usage_event_1.json").read_bytes())
    assert event.grade is Grade.FINAL
    assert event.tokens == TokenCounts(input_uncached=10, cache_read=32, output_visible=12, reasoning=5)
    assert msgspec.json.decode(event.engine_usage)["completion_tokens"] == 17


def test_an_event_with_only_what_is_required_is_read_with_defaults() -> None:
    event = decode_event((GOLDEN / "usage_event_1_least.json").read_bytes())
    assert event.ending is Ending.GATEWAY_LOST
    assert event.tokens.total == 0
    assert event.task is None
    assert event.service_tier is ServiceTier.STANDARD


def test_an_event_with_the_revision_and_the_client_s_user_is_read_whole() -> None:
    event = decode_event((GOLDEN / "usage_event_2.json").read_bytes())
    assert (event.revision, event.end_user) == ("2026-09-01", "8f14e45fceea167a5a36dedd4bea2543")
    first = decode_event((GOLDEN / "usage_event_1.json").read_bytes())
    assert (first.revision, first.end_user) == (None, None)


def test_an_event_of_a_batch_request_says_so() -> None:
    event = decode_event((GOLDEN / "usage_event_3.json").read_bytes())
    assert event.service_tier is ServiceTier.BATCH


def test_an_event_of_a_client_s_trace_names_it_and_another_s_is_that_of_its_request() -> None:
    event = decode_event((GOLDEN / "usage_event_4.json").read_bytes())
    assert event.trace_id == event.trace == "0af7651916cd43dd8448eb211c80319c"
    first = decode_event((GOLDEN / "usage_event_1.json").read_bytes())
    assert (first.trace, first.trace_id) == (None, first.id.replace("-", ""))


def test_an_event_of_an_engine_that_tells_nothing_says_so() -> None:
    event = decode_event((GOLDEN / "usage_event_5.json").read_bytes())
    assert not event.witnessed
    assert decode_event((GOLDEN / "usage_event_1.json").read_bytes()).witnessed


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("usage_event_*.json")))
def test_an_event_survives_a_round_trip(name: str) -> None:
    event = decode_event((GOLDEN / name).read_bytes())
    assert decode_event(encode_event(event)) == event


def test_an_event_of_a_later_release_is_read_in_spite_of_fields_we_do_not_know() -> None:
    later = (GOLDEN / "usage_event_1.json").read_text().strip()[:-1] + ',"carbon_grams":3}'
    assert decode_event(later.encode()).sequence == 7


def test_an_engine_record_of_the_first_release_is_read_whole() -> None:
    record = decode_record((GOLDEN / "engine_record_1.json").read_bytes())
    assert (record.ending, record.prompt, record.output) == (EngineEnding.FINISHED, 42, 17)


@given(st.builds(TokenCounts, **{name: st.integers(0, 10**9) for name in TokenCounts.__struct_fields__}))
def test_token_classes_are_disjoint_so_input_and_output_add_up_to_the_total(tokens: TokenCounts) -> None:
    assert tokens.input + tokens.output == tokens.total


@given(st.uuids(), st.integers(1, 10**6))
def test_an_attempt_leads_back_to_its_request(request: object, attempt: int) -> None:
    assert request_of_attempt(attempt_id(str(request), attempt)) == str(request)
