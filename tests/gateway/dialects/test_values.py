"""How many values a body holds: told without a decoder, and what one would find."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects.values import VALUES_MAX, holds_more_values

MARKS = st.text(alphabet='[{,"\\]}: aé', max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | MARKS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MARKS, inner, max_size=4),
    max_leaves=20,
)


def marks_of(value: Any) -> int:
    """Its arrays and objects, and the commas in them."""
    if not isinstance(value, list | dict):
        return 0
    each = value if isinstance(value, list) else list(value.values())
    return 1 + max(0, len(each) - 1) + sum(map(marks_of, each))


@given(JSON, st.integers(0, 12), st.booleans(), st.sampled_from([None, 1]))
def test_what_stands_in_strings_is_not_counted_and_all_else_is(
    value: Any, than: int, in_ascii: bool, indent: int | None
) -> None:
    body = json.dumps(value, ensure_ascii=in_ascii, indent=indent).encode()
    assert holds_more_values(body, than=than) is (marks_of(value) > than)


@given(JSON, st.binary(max_size=4), st.integers(0, 40), st.integers(0, 12))
def test_what_is_broken_is_counted_as_far_as_it_is_json(value: Any, junk: bytes, at: int, than: int) -> None:
    body = json.dumps(value).encode()
    holds_more_values(body[:at] + junk + body[at:], than=than)
    assert not holds_more_values(body[:at], than=max(than, marks_of(value)))


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"[" + b"[]," * VALUES_MAX + b"[]]", True),
        (b"[" + b"1," * VALUES_MAX + b"1]", True),
        (b'{"a":[' + b'"[",' * VALUES_MAX + b'""]}', True),
        (b"{" + b'"":0,' * VALUES_MAX + b'"":0}', True),
        (b'["' + b'\\"[],{\\\\' * VALUES_MAX + b'"]', False),
        (b'"' * (4 * VALUES_MAX), False),
        (b"[" + b"1," * (VALUES_MAX - 1) + b"1]", False),
    ],
)
def test_the_bound_is_half_a_million(body: bytes, more: bool) -> None:
    assert holds_more_values(body) is more
