"""What was appended stays, for whoever ships it."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace_platform.serving import spool as spools
from headrace_platform.serving.spool import Segment, Spool, segments, taken_over


def lines(folder: Path) -> list[bytes]:
    return [
        line for segment in segments(folder) for line in segment.lines(count_max=10_000, bytes_max=2**30)[0]
    ]


def test_records_stay_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1")
    for number in range(5):
        assert spool.append(b"%d" % number)
    assert lines(tmp_path) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_replica_begins_another_segment_when_one_is_full(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1", segment_bytes_max=10)
    for number in range(5):
        spool.append(b"%06d" % number)
    assert len(segments(tmp_path)) == 3
    assert lines(tmp_path) == [b"%06d" % number for number in range(5)]
    assert segments(tmp_path)[-1].path == spool.current


def test_what_is_acknowledged_is_not_read_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1")
    for number in range(3):
        spool.append(b"%d" % number)
    segment = Segment(spool.current)
    first, end = segment.lines(count_max=2, bytes_max=1000)
    assert first == [b"0", b"1"]
    segment.acknowledge(end)
    assert segment.lines(count_max=10, bytes_max=1000) == ([b"2"], end + 2)


def test_a_torn_mark_means_from_the_beginning(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1")
    spool.append(b"1")
    spool.current.with_suffix(spools.ACKNOWLEDGED_SUFFIX).write_bytes(b"")
    assert lines(tmp_path) == [b"1"]


def test_half_a_record_is_no_record(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1")
    spool.append(b"whole")
    with spool.current.open("ab") as file:
        file.write(b"ha")
    assert lines(tmp_path) == [b"whole"]


def test_a_living_replica_s_segment_is_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1")
    with taken_over(Segment(spool.current)) as ours:
        assert not ours
    spool.close()
    with taken_over(Segment(spool.current)) as ours:
        assert ours


def test_one_takes_a_segment_over_and_no_second_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1")
    spool.close()
    segment = Segment(spool.current)
    with taken_over(segment) as first, taken_over(segment) as second:
        assert (first, second) == (True, False)


def test_a_segment_that_was_shipped_meanwhile_is_nobody_s(tmp_path: Path) -> None:
    with taken_over(Segment(tmp_path / "gone.jsonl")) as ours:
        assert not ours


REPLICA = """
import pathlib, signal, sys
from headrace_platform.serving.spool import Spool
Spool(pathlib.Path(sys.argv[1]), "killed").append(b"kept")
print("appended", flush=True)
signal.pause()
"""


def test_a_killed_replica_s_records_are_there_to_take_over(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", REPLICA, tmp_path], stdout=subprocess.PIPE) as replica:
        assert replica.stdout is not None
        assert replica.stdout.readline() == b"appended\n"
        (segment,) = segments(tmp_path)
        with taken_over(segment) as ours:
            assert not ours
        replica.kill()
    with taken_over(segment) as ours:
        assert ours
        assert lines(tmp_path) == [b"kept"]


def test_a_full_spool_loses_records_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool(tmp_path, "r1", segment_bytes_max=10, spool_bytes_max=30)
    appended = [spool.append(b"%09d" % number) for number in range(6)]
    assert appended == [True, True, True, False, False, False]
    assert spool.lost == 3
    assert lines(tmp_path) == [b"%09d" % number for number in range(3)]
    assert "engine_records_lost" in capsys.readouterr().out


def test_a_spool_that_has_room_again_takes_records_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1", segment_bytes_max=10, spool_bytes_max=20)
    assert [spool.append(b"%09d" % number) for number in range(3)] == [True, True, False]
    segments(tmp_path)[0].delete()
    assert spool.append(b"again")


def test_the_spool_is_its_owner_s_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records", "r1")
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert spool.current.stat().st_mode & 0o777 == 0o600
