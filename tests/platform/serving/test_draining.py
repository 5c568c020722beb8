"""A worker's pod ends when its replicas have left, or when nobody can tell them to."""

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace_platform.serving import draining
from headrace_platform.serving.draining import answers, drain, replicas


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `ray` that takes note of what it is told, in the file that is returned."""
    told = tmp_path / "told"
    program = tmp_path / "ray"
    program.write_text(f'#!/bin/sh\necho "$@" > {told}\n')
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return told


def process(folder: Path, number: int, title: bytes) -> None:
    (folder / str(number)).mkdir(parents=True)
    (folder / str(number) / "cmdline").write_bytes(title)


def test_replicas_are_known_by_their_title(tmp_path: Path) -> None:
    process(tmp_path, 7, b"ray::ServeReplica:engine:vllm")
    process(tmp_path, 8, b"ray::ProxyActor")
    process(tmp_path, 9, b"/usr/bin/ray::ServeReplica")
    (tmp_path / "meminfo").touch()
    assert list(replicas(tmp_path)) == [7]


def test_ray_is_told_and_nothing_is_waited_for_where_no_replica_runs(
    ray: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(draining, "PROCESSES", tmp_path)
    assert drain(60)
    assert "drain-node --reason DRAIN_NODE_REASON_PREEMPTION" in ray.read_text()
    assert "--deadline-remaining-seconds 60" in ray.read_text()


def test_a_real_process_with_that_title_is_waited_for_until_it_ends(
    ray: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(draining, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(draining, "LOOK_SECONDS", 0.02)
    (tmp_path / "proc").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head.getsockname()[1]}")
        # It ends by itself; so does the wait, and not before. Its last act is what tells: the kernel takes its
        # command line away before anybody can see that it has ended, and gives it one after it was started.
        ended = tmp_path / "ended"
        program = (
            "import pathlib, sys, time; print(flush=True); time.sleep(0.5); pathlib.Path(sys.argv[1]).touch()"
        )
        command = ["ray::ServeReplica:test", "-c", program, str(ended)]
        with subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"\n"
            # This one alone: the machine may run others.
            (tmp_path / "proc" / str(running.pid)).symlink_to(f"/proc/{running.pid}")
            assert drain(60)
            assert ended.exists()


def test_the_time_that_it_has_is_a_bound(ray: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process(tmp_path / "proc", 7, b"ray::ServeReplica")
    monkeypatch.setattr(draining, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(draining, "LOOK_SECONDS", 0.01)
    assert not drain(0.05)


def test_without_ray_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process(tmp_path / "proc", 7, b"ray::ServeReplica")
    monkeypatch.setattr(draining, "PROCESSES", tmp_path / "proc")
    monkeypatch.setenv("PATH", str(tmp_path))
    began = time.monotonic()
    assert not drain(3600)
    assert time.monotonic() - began < 60


def test_when_the_head_is_gone_for_good_nobody_is_waited_for(
    ray: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process(tmp_path / "proc", 7, b"ray::ServeReplica")
    monkeypatch.setattr(draining, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(draining, "LOOK_SECONDS", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not drain(3600)


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:1"])
def test_what_is_no_address_does_not_answer(address: str) -> None:
    assert not answers(address)
