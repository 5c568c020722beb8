"""Each token is counted once, and events made of fragments are what the contract says."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.usage import (
    Dialect,
    Disposition,
    Ending,
    Grade,
    TokenCounts,
    UsageEvent,
    decode_event,
)
from headrace_gateway.metering import events
from headrace_gateway.metering.counts import read_counts
from headrace_gateway.metering.events import Fixed, Told


def test_cached_is_inside_prompt_and_reasoning_inside_completion() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    counts = read_counts(msgspec.json.encode(usage))
    assert counts == TokenCounts(input_uncached=36, cache_read=64, output_visible=30, reasoning=20)
    assert counts.total == 150


@pytest.mark.parametrize(
    "usage",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"prompt_tokens":1',
        b'{"prompt_tokens":"1","completion_tokens":1}',
        b'{"prompt_tokens":1.5,"completion_tokens":1}',
        b'{"prompt_tokens":-1,"completion_tokens":1}',
        b'{"prompt_tokens":1,"completion_tokens":-1}',
        b'{"prompt_tokens":1,"completion_tokens":99999999999}',
        b'{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}',
        b'{"prompt_tokens":1,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}',
        b'{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-1}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_usage_counts_nothing(usage: bytes) -> None:
    assert read_counts(usage) is None


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens":3}',
        b'{"prompt_tokens":3,"completion_tokens":null,"prompt_tokens_details":null}',
        b'{"prompt_tokens":3,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":null}}',
    ],
)
def test_absent_parts_are_nothing(usage: bytes) -> None:
    assert read_counts(usage) == TokenCounts(input_uncached=3)


names = st.text(max_size=60)
optional = st.none() | names
amounts = st.integers(0, 2**40)


@given(
    names=st.lists(names, min_size=9, max_size=9),
    session=optional,
    task=optional,
    counts=st.lists(amounts, min_size=5, max_size=5),
    first=st.none() | amounts,
    engine_usage=st.none() | st.just(b'{"prompt_tokens": 1}'),
    ending=st.sampled_from(Ending),
)
def test_a_joined_event_is_the_contracts_event(
    *,
    names: list[str],
    session: str | None,
    task: str | None,
    counts: list[int],
    first: int | None,
    engine_usage: bytes | None,
    ending: Ending,
) -> None:
    request_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    fields: dict[str, Any] = {
        "org": names[0],
        "project": names[1],
        "key": names[2],
        "wallet": names[3],
        "currency": "USD",
        "deployment": names[4],
        "model_requested": names[5],
        "model_served": names[6],
        "dialect": Dialect.OPENAI_CHAT,
        "price_book": names[7],
        "disposition": Disposition.PREPAID,
        "revision": names[8],
    }
    told: dict[str, Any] = {
        "session": session,
        "task": task,
        "task_attempt": session,
        "end_user": session,
        "trace": task,
    }
    tokens = TokenCounts(
        input_uncached=counts[0],
        cache_read=counts[1],
        cache_write=counts[2],
        output_visible=counts[3],
        reasoning=counts[4],
    )
    fixed = events.with_told(events.fixed_fragment(Fixed(**fields)), Told(**told))
    identity = events.identity_fragment(request_id, 123, fixed)
    event = events.final_event(
        identity=identity,
        counts=events.counts_fragment(
            attempts=2, first_token_at_us=first, tokens=tokens, engine_usage=engine_usage
        ),
        journal=events.journal_fragment("gateway-0", "boot"),
        sequence=7,
        finished_at_us=456,
        ending=ending,
    )
    assert events.id_of(identity) == events.id_of_event(event) == request_id
    assert decode_event(event) == UsageEvent(
        id=request_id,
        grade=Grade.FINAL,
        producer="gateway-0",
        boot="boot",
        sequence=7,
        received_at_us=123,
        first_token_at_us=first,
        finished_at_us=456,
        ending=ending,
        attempts=2,
        tokens=tokens,
        engine_usage=msgspec.Raw(engine_usage or b"null"),
        **fields,
        **told,
    )
