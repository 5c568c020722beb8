"""Postgres refuses to run as root. Root's children give up being root here, without a user made for them.

Two things are in the way of a child that is nobody: it can't walk to its data through folders that only root
may enter, and it may not reach its own binaries either (a checkout under /root, say). Neither is mended by
loosening the permissions of folders that are not ours. Data is handed over as an open directory, see
`postgres.py`; for unreachable binaries the child keeps the one capability of walking and reading past
permissions, and nothing else of what root may do.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace_platform.local.problems import StackProblem

# The ids that Linux reserves for "nobody in particular"; initdb asks for the name, and every system has it.
NOBODY = 65534

_DAC_OVERRIDE = 1
_DAC_READ_SEARCH = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class CannotBecomeNobody(StackProblem):
    """Root can't start the program as an ordinary user here."""

    code = "cannot_become_nobody"


@dataclass(frozen=True, slots=True)
class Nobody:
    """How a child of root becomes nobody: by ids alone, or with one capability kept."""

    capability: int | None

    def become(self) -> None:
        """Runs in the child, between fork and exec."""
        if self.capability is not None:
            # A change of user leaves capabilities alone, and access(2) counts them, which initdb asks.
            _check(_libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "keep capabilities")
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        if self.capability is not None:
            _keep_only(self.capability)


def nobody_for(binary: Path) -> Nobody | None:
    """How to start `binary` without being root; None when we are not root and nothing need be done.

    Raises `CannotBecomeNobody`.
    """
    if os.geteuid() != 0:
        return None
    if sys.platform != "linux":
        raise CannotBecomeNobody(
            "As root the embedded Postgres runs on Linux only.", next_step="Run it as an ordinary user."
        )
    return Nobody(_capability_to_reach(binary))


def die_with_parent(signal_number: int) -> None:
    """In the child: be signalled when the thread that forked us ends. Only Linux can; else it is no harm."""
    if sys.platform == "linux":
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "die with the parent")


def in_child(*steps: Callable[[], None]) -> Callable[[], None] | None:
    """The steps as one `preexec_fn`, or None where there are none: fork is cheaper without."""
    if not steps:
        return None

    def run() -> None:
        for step in steps:
            step()

    return run


def _capability_to_reach(binary: Path) -> int | None:
    resolved = binary.resolve(strict=True)
    runnable = bool(resolved.stat().st_mode & stat.S_IXOTH)
    if runnable and all(folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents):
        return None
    held = _permitted()
    # Reading past permissions does not allow to execute past them; only the wider capability does.
    for capability in (_DAC_READ_SEARCH, _DAC_OVERRIDE) if runnable else (_DAC_OVERRIDE,):
        if held >> capability & 1:
            return capability
    raise CannotBecomeNobody(
        f"{resolved} can be reached by root only, and Postgres won't run as root.",
        next_step="Move the checkout to a folder that others may enter, or run as an ordinary user.",
    )


def _permitted() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def _keep_only(capability: int) -> None:
    bit = 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; the second three are for capabilities above 31.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _check(_libc.capset(header, sets), "reduce capabilities")
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "keep one capability")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"can't {what}: {os.strerror(number)}")
