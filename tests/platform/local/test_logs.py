"""Reading what programs said."""

from pathlib import Path

import pytest

from headrace_platform.local import logs
from headrace_platform.local.logs import LOG_BYTES_MAX, follow, open_log, tail


def test_the_last_lines_are_shown(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(100_000)))
    assert tail(tmp_path / "log", 2) == ["99998", "99999"]
    assert tail(tmp_path / "log", 0) == []
    assert tail(tmp_path / "none", 5) == []


def test_neither_a_secret_nor_a_terminal_s_control_sequence_is_shown(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\x1b[31mkey hr-0123456789abcdef0123\x1b[0m at redis://:hush@127.0.0.1/0\n")
    assert tail(tmp_path / "log", 1) == ["key [redacted] at redis://[redacted]@127.0.0.1/0"]


def test_a_log_that_is_full_is_put_aside_at_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    with file.open("wb") as log:
        log.truncate(LOG_BYTES_MAX + 1)
    with open_log(file) as log:
        log.write(b"anew\n")
    assert file.read_bytes() == b"anew\n"
    assert (tmp_path / "gateway.log.1").stat().st_size == LOG_BYTES_MAX + 1


def test_whole_lines_come_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FOLLOW_INTERVAL_SECONDS", 0)
    file = tmp_path / "gateway.log"
    file.write_text("before\n")
    writes = iter(["first\nsec", "ond\n", "third\n"])

    def write_or_stop() -> bool:
        text = next(writes, None)
        if text is not None:
            with file.open("a") as log:
                log.write(text)
        return text is None

    assert [line for _, line in follow({"gateway": file}, stop=write_or_stop)] == ["first", "second", "third"]
