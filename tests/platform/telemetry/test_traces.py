"""W3C's header of a trace: read where it is one, ignored where it is none, and written so that others read it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_telemetry.traces import Parent, new_span_id, read_traceparent, write_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.integers(min_value=1, max_value=16**digits - 1).map(lambda number: f"{number:0{digits}x}")


@given(trace=hexadecimal(32), span=hexadecimal(16), sampled=st.booleans())
def test_what_is_written_is_read_back(trace: str, span: str, sampled: bool) -> None:
    assert read_traceparent(write_traceparent(trace, span, sampled=sampled)) == Parent(trace, span, sampled)


@given(st.text())
def test_no_header_does_harm(sent: str) -> None:
    found = read_traceparent(sent)
    assert found is None or (len(found.trace), len(found.span)) == (32, 16)


@pytest.mark.parametrize(
    "sent",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\r\nx-evil: 1",
    ],
)
def test_what_is_none_is_as_if_it_had_not_been_sent(sent: str) -> None:
    assert read_traceparent(sent) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert read_traceparent(f"01-{TRACE}-{SPAN}-03-more") == Parent(TRACE, SPAN, sampled=True)


def test_a_span_s_id_is_never_the_one_that_means_none() -> None:
    ids = {new_span_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(int(each, 16) for each in ids)
