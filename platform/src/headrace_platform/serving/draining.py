"""`python -m headrace_platform.serving.draining --seconds N`: before a worker's pod ends, its replicas do.

Kubernetes asks for it in the pod while everything still runs. Ray is told that this node goes, so Serve starts
replicas elsewhere, gives these no new request, and lets them finish what they have. Returns when they are gone or
the time is up; whatever still runs then is cut by Kubernetes.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# What Ray calls the process of a Serve replica.
REPLICA_TITLE = b"ray::ServeReplica"

LOOK_SECONDS = 2.0
# Ray answers within a second, or its head is gone and nobody routes here any more.
TELL_TIMEOUT_SECONDS = 30.0

# A head that is only started again answers within minutes; its workers wait ten for it.
UNANSWERED_MAX = 120
CONNECT_TIMEOUT_SECONDS = 2.0

PROCESSES = Path("/proc")


def drain(seconds: float) -> bool:
    """Whether all replicas were gone in time."""
    deadline = time.monotonic() + seconds
    if not tell_ray(seconds):
        # Without Ray's word no replica would ever leave; what runs may still end.
        return False
    unanswered = 0
    while any(replicas(PROCESSES)):
        # When a whole cluster is deleted its head goes at once, and nobody tells replicas to leave any more.
        unanswered = 0 if answers(os.environ.get("RAY_ADDRESS", "")) else unanswered + 1
        if time.monotonic() >= deadline or unanswered >= UNANSWERED_MAX:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def tell_ray(seconds: float) -> bool:
    """Whether Ray has taken note. Of idle termination it may say no, so the reason is the other one."""
    try:
        told = subprocess.run(
            [
                *("ray", "drain-node"),
                *("--reason", "DRAIN_NODE_REASON_PREEMPTION"),
                *("--reason-message", "the pod is being stopped"),
                *("--deadline-remaining-seconds", str(int(seconds))),
            ],
            check=False,
            timeout=TELL_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"ray could not be told: {error}\n")
        return False
    return told.returncode == 0


def answers(address: str) -> bool:
    """Whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def replicas(processes: Path) -> Iterator[int]:
    """Ids of this container's replica processes."""
    for folder in processes.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it ended while we looked
        if title.startswith(REPLICA_TITLE):
            yield int(folder.name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="headrace_platform.serving.draining", description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    return 0 if drain(parser.parse_args().seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
