"""The in-flight table survives a SIGKILL at any instruction, with each slot's value whole."""

import os
import random
import time
from functools import partial
from pathlib import Path

import pytest

from headrace_contracts.usage import Ending
from headrace_gateway.metering.inflight import (
    ENDINGS,
    HEAD_BYTES_MAX,
    USAGE_BYTES_MAX,
    InflightTable,
    map_table,
    note_journalled,
    read_table,
)
from tests.gateway import forking
from tests.support.patience import wait_until

KILLS = 25


def write_forever(table: InflightTable, slot: int) -> None:
    """Values whose parts must agree with each other: count, length and filling."""
    count = 0
    while True:
        count += 1
        usage = b"%d:" % count + bytes([count % 251]) * (count % 700)
        table.note(slot, usage, first_token_at_us=count, attempts=count % 2**32)


def work(path: Path, head: bytes) -> None:
    table = InflightTable(path, slots=4)
    slot = table.take()
    assert slot is not None
    table.open(slot, head)
    write_forever(table, slot)


def test_a_killed_process_leaves_every_value_whole(tmp_path: Path) -> None:
    highest = 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill}.inflight"
        child = forking.start(partial(work, path, b"head of %d" % kill))
        while not path.exists():
            time.sleep(0.001)
        if kill == KILLS - 1:
            wait_until(partial(is_at_work, path))
        time.sleep(random.uniform(0.0, 0.03))
        forking.kill(child)

        for found in read_table(path):
            assert found.head == b"head of %d" % kill
            if not found.usage:
                continue
            text, _, filling = found.usage.partition(b":")
            count = int(text)
            assert filling == bytes([count % 251]) * (count % 700)
            assert (found.first_token_at_us, found.attempts) == (count, count)
            highest = max(highest, count)
    assert highest > 1000  # it was killed at work


def is_at_work(path: Path) -> bool:
    """Whether the process that writes it has come far."""
    return any(found.attempts > 1000 for found in read_table(path))


def test_only_open_slots_are_found_again(tmp_path: Path) -> None:
    table = InflightTable(tmp_path / "t", slots=3)
    slots = [table.take() for _ in range(4)]
    assert slots[3] is None
    first, second, third = (slot for slot in slots if slot is not None)
    table.open(first, b"a" * HEAD_BYTES_MAX)
    table.open(second, b"b")
    table.note(first, b"u" * USAGE_BYTES_MAX, first_token_at_us=5, attempts=1)
    table.note(second, b"", first_token_at_us=0, attempts=2)
    assert table.running == 3
    table.give_back(third)
    [one, two] = sorted(read_table(tmp_path / "t"), key=lambda found: found.head)
    assert (one.head, one.usage) == (b"a" * HEAD_BYTES_MAX, b"u" * USAGE_BYTES_MAX)
    assert (two.usage, two.first_token_at_us, two.attempts) == (b"", None, 2)
    table.give_back(first)
    table.open(table.take() or 0, b"c")  # the slot's former counts are not the next one's
    assert {(found.head, found.usage) for found in read_table(tmp_path / "t")} == {(b"b", b""), (b"c", b"")}
    table.close()


def test_a_slot_tells_that_only_its_settlement_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = InflightTable(path, slots=3)
    first, second, third = (slot for _ in range(3) if (slot := table.take()) is not None)
    for slot in (first, second, third):
        table.open(slot, b"head", b"claim")
    table.note(first, b"usage", first_token_at_us=1, attempts=1)
    table.journalled(first, Ending.WITHHELD)
    table.close()
    note_journalled(map_table(path), second, Ending.GATEWAY_LOST)
    found = {inflight.slot: inflight for inflight in read_table(path)}
    assert {(one.head, one.claim) for one in found.values()} == {(b"head", b"claim")}
    assert [found[slot].journalled for slot in (first, second, third)] == [
        Ending.WITHHELD,
        Ending.GATEWAY_LOST,
        None,
    ]
    assert found[first].usage == b"usage"


def test_every_ending_has_a_number() -> None:
    assert set(ENDINGS) == set(Ending)


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_table_cut_short_holds_nothing(tmp_path: Path, size: int) -> None:
    InflightTable(tmp_path / "t", slots=2).close()
    os.truncate(tmp_path / "t", size)
    assert read_table(tmp_path / "t") == []


def test_a_torn_page_falls_back_to_the_value_before(tmp_path: Path) -> None:
    table = InflightTable(tmp_path / "t", slots=1)
    table.open(table.take() or 0, b"head")
    table.note(0, b"before", first_token_at_us=1, attempts=1)
    table.note(0, b"newest", first_token_at_us=1, attempts=1)
    table.close()
    content = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(content.replace(b"newest", b"ne\0\0\0\0"))
    assert [found.usage for found in read_table(tmp_path / "t")] == [b"before"]


def test_the_value_before_can_be_had_as_well(tmp_path: Path) -> None:
    table = InflightTable(tmp_path / "t", slots=1)
    table.open(table.take() or 0, b"head")
    for value in (b"first", b"before", b"newest"):
        table.note(0, value, first_token_at_us=1, attempts=1)
    table.close()
    [found] = read_table(tmp_path / "t")
    assert (found.usage, found.usage_before) == (b"newest", b"before")
