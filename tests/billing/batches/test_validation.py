"""What is wrong with a file is told line by line, before anything of it is sent."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.batches import line as lines
from headrace_billing.batches.batch import ERRORS_MAX
from headrace_billing.batches.line import LINE_BYTES_MAX, LineInvalid, numbered, read_line
from tests.billing.batches.conftest import BOUNDS
from tests.billing.batches.desk import Desk
from tests.billing.batches.lines import CHAT, jsonl, line


async def in_pieces(content: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    ends = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    for start, end in pairwise(ends):
        yield content[start:end]


@given(content=st.text(alphabet="a \n\r").map(str.encode), cuts=st.lists(st.integers(0, 200), max_size=8))
async def test_lines_are_the_same_however_the_file_is_cut_into_pieces(
    content: bytes, cuts: list[int]
) -> None:
    found = [each async for each in numbered(in_pieces(content, cuts))]
    plain = [(number, text) for number, text in enumerate(content.split(b"\n"), 1) if text.strip()]
    assert found == plain


async def test_of_a_line_without_end_no_more_is_held_than_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 100)
    content = b"x" * 5000 + b"\nshort"
    found = [each async for each in numbered(in_pieces(content, list(range(0, 5000, 90))))]
    assert [number for number, _ in found] == [1, 2]
    assert 100 < len(found[0][1]) <= 200
    assert found[1] == (2, b"short")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("invalid_json_line", b"{"),
        ("invalid_json_line", b"[]"),
        ("invalid_json_line", b'{"custom_id": "a"}'),
        ("invalid_json_line", b'\xff{"custom_id": "a"}'),
        ("invalid_json_line", jsonl(line(body=[]))),
        ("invalid_custom_id", jsonl(line(""))),
        ("invalid_custom_id", jsonl(line("a\nb"))),
        ("invalid_custom_id", jsonl(line("a" * 513))),
        ("invalid_method", jsonl(line(method="GET"))),
        ("mismatched_endpoint", jsonl(line(url="/v1/embeddings"))),
        ("stream_unsupported", jsonl(line(body={"model": "m", "stream": True}))),
        ("invalid_model", jsonl(line(body={"messages": []}))),
        ("invalid_model", jsonl(line(body={"model": 3}))),
        ("line_too_long", b"x" * (LINE_BYTES_MAX + 1)),
    ],
)
def test_a_line_that_is_no_request_is_told_why(code: str, text: bytes) -> None:
    with pytest.raises(LineInvalid) as refused:
        read_line(1, text, endpoint=CHAT)
    assert refused.value.code == code
    assert str(refused.value)


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_line_and_of_no_other() -> None:
    marked = b"\xef\xbb\xbf" + jsonl(line("a"))
    assert read_line(1, marked, endpoint=CHAT).custom_id == "a"
    with pytest.raises(LineInvalid):
        read_line(2, marked, endpoint=CHAT)


@given(
    body=st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5), max_size=4
    )
)
def test_a_body_is_sent_as_it_was_written(body: dict[str, Any]) -> None:
    body = {**body, "model": "m", "stream": False}
    text = json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": body}, indent=1).encode()
    assert json.loads(read_line(1, text, endpoint=CHAT).body) == body


async def test_a_file_with_mistakes_fails_its_batch_with_the_line_of_each(desk: Desk) -> None:
    content = jsonl(line("a"), line("b")) + b"{\n\n" + jsonl(line("a"), line("c", model="glm-unknown"))
    batch = await desk.ended(await desk.make(await desk.upload(content)))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(each.line, each.code) for each in batch.errors.data] == [
        (3, "invalid_json_line"),
        (5, "duplicate_custom_id"),
        (6, "model_not_found"),
    ]
    assert batch.failed_at is not None
    assert desk.gateway.asked == 0
    assert (await desk.rows())["batch_lines"] == 0


async def test_so_many_mistakes_are_told_and_no_more(desk: Desk) -> None:
    content = b"{\n" * (ERRORS_MAX + 5)
    batch = await desk.ended(await desk.make(await desk.upload(content)))
    assert batch.errors is not None
    assert len(batch.errors.data or ()) == ERRORS_MAX


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("empty_file", b""),
        ("empty_file", b"\n \n"),
        ("too_many_lines", jsonl(*(line(str(number)) for number in range(BOUNDS.lines_max + 1)))),
    ],
)
async def test_a_file_without_requests_or_with_too_many_fails_its_batch(
    desk: Desk, code: str, content: bytes
) -> None:
    batch = await desk.ended(await desk.make(await desk.upload(content)))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data or ()] == [code]


async def test_a_file_that_was_deleted_fails_its_batch(desk: Desk) -> None:
    file = await desk.upload(jsonl(line()))
    batch = await desk.make(file)
    await desk.openai.files.delete(file)
    ended = await desk.ended(batch)
    assert ended.status == "failed"
    assert ended.errors is not None
    assert [each.code for each in ended.errors.data or ()] == ["input_file_gone"]
