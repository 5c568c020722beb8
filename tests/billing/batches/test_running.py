"""How batches run and end, whatever the gateway says and whoever dies."""

from datetime import timedelta

import openai
import pytest
from openai.types import Batch
from sqlalchemy import text

from headrace_billing.batches.batch import OPEN_MAX
from headrace_billing.batches.dispatching import DOUBT_TIME
from headrace_billing.batches.line_store import claim
from headrace_billing.batches.reply import TRIES_MAX
from tests.billing.batches.desk import Desk
from tests.billing.batches.lines import line
from tests.billing.batches.scripted_gateway import Says


async def until_ended(desk: Desk, batch: Batch) -> None:
    """Lets time pass until the batch has ended."""
    for _ in range(20):
        await desk.work()
        if (await desk.now(batch)).status == "completed":
            return
        desk.clock.passes(seconds=60)
    raise AssertionError("it never ended")


async def test_answers_come_in_the_order_of_the_file_each_on_a_line(desk: Desk) -> None:
    batch = await desk.ended(await desk.hand_in(*(line(f"n{number}") for number in range(10))))
    assert batch.status == "completed"
    assert batch.completed_at is not None
    assert batch.finalizing_at is not None
    answers = await desk.lines(batch.output_file_id)
    assert [each["custom_id"] for each in answers] == [f"n{number}" for number in range(10)]
    assert answers[3]["response"]["body"]["echo"] == "say n3"
    assert answers[3]["response"]["request_id"] == answers[3]["response"]["body"]["id"]
    assert desk.gateway.sessions == {batch.id}
    assert await desk.rows() == {"files": 2, "file_pieces": 2, "batches": 1, "batch_lines": 0}


async def test_a_refused_line_is_in_the_error_file_and_the_others_in_the_output(desk: Desk) -> None:
    desk.gateway.says(Says(status=400), Says(status=402))
    batch = await desk.ended(await desk.hand_in(*(line(str(number)) for number in range(5))))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 2)
    errors = await desk.lines(batch.error_file_id)
    assert sorted(each["response"]["status_code"] for each in errors) == [400, 402]
    assert {each["response"]["body"]["error"]["code"] for each in errors} == {"said_400", "said_402"}
    assert len(await desk.lines(batch.output_file_id)) == 3


async def test_a_batch_for_which_there_is_no_room_waits_as_long_as_it_is_told(desk: Desk) -> None:
    desk.gateway.says(*(Says(status=429, retry_after=20) for _ in range(3)))
    batch = await desk.hand_in(*(line(str(number)) for number in range(9)))
    await desk.work()
    assert desk.gateway.asked == 3
    desk.clock.passes(seconds=19)
    await desk.work()
    assert desk.gateway.asked == 3
    desk.clock.passes(seconds=1)
    assert (await desk.ended(batch)).status == "completed"
    assert set(desk.gateway.served.values()) == {1}


async def test_what_fails_on_our_side_is_tried_again(desk: Desk) -> None:
    desk.gateway.says(*[Says(status=502)] * (TRIES_MAX - 1))
    batch = await desk.hand_in(line("a"))
    await until_ended(desk, batch)
    assert desk.gateway.asked == TRIES_MAX
    assert (await desk.now(batch)).error_file_id is None


async def test_what_fails_again_and_again_is_told_as_it_failed_last(desk: Desk) -> None:
    desk.gateway.says(*[Says(status=502)] * TRIES_MAX)
    failed = await desk.hand_in(line("a"))
    await until_ended(desk, failed)
    (refused,) = await desk.lines((await desk.now(failed)).error_file_id)
    assert refused["response"]["body"]["error"]["code"] == "said_502"
    desk.gateway.says(*[Says(hangs_up=True)] * TRIES_MAX)
    silent = await desk.hand_in(line("a"))
    await until_ended(desk, silent)
    (unanswered,) = await desk.lines((await desk.now(silent)).error_file_id)
    assert (unanswered["response"], unanswered["error"]["code"]) == (None, "no_answer")


async def test_an_answer_that_got_lost_on_its_way_is_asked_for_again_and_not_made_again(desk: Desk) -> None:
    desk.gateway.says(*[Says(hangs_up=True, serves_first=True)] * 3)
    batch = await desk.hand_in(*(line(str(number)) for number in range(3)))
    await until_ended(desk, batch)
    assert desk.gateway.asked == 6
    assert set(desk.gateway.served.values()) == {1}
    assert len(await desk.lines((await desk.now(batch)).output_file_id)) == 3


async def test_what_a_worker_had_under_way_when_it_died_is_asked_again(desk: Desk) -> None:
    batch = await desk.hand_in(line("a"), line("b"))
    await desk.batches.validate()
    await died_after_sending(desk)
    desk.clock.passes(seconds=59)
    await desk.work()
    assert desk.gateway.asked == 0
    desk.clock.passes(seconds=1)
    ended = await desk.ended(batch)
    assert ended.status == "completed"
    assert desk.gateway.served == {"say a": 1, "say b": 1}


async def died_after_sending(desk: Desk) -> None:
    """A worker claimed all lines, and nothing was heard of it again."""
    async with desk.database.begin() as session:
        await claim(session, limit=100, at=desk.clock.now)


async def test_what_may_have_been_answered_is_not_sent_once_the_gateway_has_forgotten_it(desk: Desk) -> None:
    batch = await desk.hand_in(line("a"))
    await desk.batches.validate()
    await died_after_sending(desk)
    desk.clock.now += DOUBT_TIME + timedelta(seconds=1)
    ended = await desk.ended(batch)
    assert desk.gateway.asked == 0
    (lost,) = await desk.lines(ended.error_file_id)
    assert (lost["response"], lost["error"]["code"]) == (None, "answer_lost")


async def test_a_batch_that_is_cancelled_sends_nothing_more_and_keeps_what_it_has(desk: Desk) -> None:
    desk.gateway.says(Says(status=503, retry_after=10), Says(status=503), Says(status=503))
    batch = await desk.hand_in(*(line(str(number)) for number in range(8)))
    await desk.batches.validate()
    await desk.batches.dispatcher.step()
    cancelling = await desk.openai.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    await desk.work()
    desk.clock.passes(hours=1)
    ended = await desk.ended(batch)
    assert desk.gateway.asked == 3
    assert ended.status == "cancelled"
    assert ended.request_counts is not None
    assert ended.request_counts.failed == 8 - ended.request_counts.completed
    assert {each["error"]["code"] for each in await desk.lines(ended.error_file_id)} == {"batch_cancelled"}
    assert (await desk.openai.batches.cancel(batch.id)).status == "cancelled"


async def test_a_batch_that_has_ended_can_t_be_cancelled(desk: Desk) -> None:
    batch = await desk.ended(await desk.hand_in(line()))
    with pytest.raises(openai.BadRequestError) as refused:
        await desk.openai.batches.cancel(batch.id)
    assert refused.value.code == "batch_ended"


async def test_what_is_not_done_after_a_day_expires_and_what_is_done_stays(desk: Desk) -> None:
    desk.gateway.says(Says(), Says(status=503, retry_after=10))
    batch = await desk.hand_in(*(line(str(number)) for number in range(3)))
    await desk.work()
    before = (await desk.now(batch)).request_counts
    desk.clock.passes(hours=24)
    ended = await desk.ended(batch)
    assert ended.status == "expired"
    assert ended.expired_at is not None
    assert ended.request_counts is not None
    assert before is not None
    assert ended.request_counts.completed == before.completed
    assert {each["error"]["code"] for each in await desk.lines(ended.error_file_id)} == {"batch_expired"}
    assert len(await desk.lines(ended.error_file_id)) == 3 - before.completed


async def test_a_line_under_way_at_the_end_of_the_day_is_waited_for(desk: Desk) -> None:
    batch = await desk.hand_in(line("a"))
    await desk.batches.validate()
    desk.clock.passes(hours=23, minutes=59, seconds=30)
    await died_after_sending(desk)
    desk.clock.passes(seconds=31)
    await desk.work()
    assert (await desk.now(batch)).status == "in_progress"
    desk.clock.passes(seconds=30)
    ended = await desk.ended(batch)
    assert ended.status == "completed"


async def test_a_short_batch_does_not_wait_for_a_long_one(desk: Desk) -> None:
    long = await desk.hand_in(*(line(f"long {number}") for number in range(30)))
    await desk.batches.validate()
    desk.clock.passes(seconds=1)
    short = await desk.hand_in(line("short 1"), line("short 2"))
    await desk.batches.validate()
    while (await desk.now(short)).request_counts.completed < 2:  # type: ignore[union-attr]
        await desk.batches.dispatcher.step()
    done = (await desk.now(long)).request_counts
    assert done is not None
    assert done.completed < 10


async def test_batches_are_listed_the_newest_first_and_so_many_may_run(desk: Desk) -> None:
    file = await desk.upload(b"{}")
    made = []
    for _ in range(OPEN_MAX):
        desk.clock.passes(seconds=1)
        made.append((await desk.make(file)).id)
    assert [each.id async for each in desk.openai.batches.list(limit=20)] == made[::-1]
    with pytest.raises(openai.RateLimitError) as refused:
        await desk.make(file)
    assert refused.value.code == "too_many_batches"


async def test_requests_are_sent_for_the_key_that_made_the_batch(desk: Desk) -> None:
    async with desk.database.begin() as session:
        found = await session.execute(
            text("SELECT secret_sha256 FROM api_keys WHERE id = :id"), {"id": desk.customer.key}
        )
        expected = found.scalar_one()
    await desk.ended(await desk.hand_in(line()))
    assert desk.gateway.keys == {expected}


async def test_what_is_still_under_way_at_the_gateway_is_waited_for_however_long_it_takes(desk: Desk) -> None:
    batch = await desk.hand_in(line("a"))
    await desk.batches.validate()
    await died_after_sending(desk)
    for _ in range(4):
        desk.clock.now += DOUBT_TIME - timedelta(seconds=1)
        desk.gateway.says(Says(status=409))
        await desk.work()
    desk.clock.passes(seconds=1)
    assert (await desk.ended(batch)).status == "completed"
    assert desk.gateway.served == {"say a": 1}


async def test_a_refusal_does_not_make_forgotten_what_may_have_been_answered_before(desk: Desk) -> None:
    desk.gateway.says(Says(hangs_up=True, serves_first=True))
    batch = await desk.hand_in(line("a"))
    await desk.work()
    desk.clock.passes(minutes=2)
    desk.gateway.says(Says(status=503))
    await desk.work()
    desk.gateway.forget()
    desk.clock.now += DOUBT_TIME
    ended = await desk.ended(batch)
    assert desk.gateway.served == {"say a": 1}
    assert [each["error"]["code"] for each in await desk.lines(ended.error_file_id)] == ["answer_lost"]
