"""A clock for streams that is finer than the event loop's, whose timers end on whole milliseconds.

On those the tokens of many streams would come together, and whoever relays them would be woken once for all.
"""

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable

CLOCK_MONOTONIC = 1
ABSOLUTE = 1
NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("every", _Timespec), ("first", _Timespec))


class Pace:
    """Calls back at moments told in nanoseconds of the monotonic clock; Linux's timerfd, which Python has from 3.13 on."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCKING)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._set_for = 0
        asyncio.get_running_loop().add_reader(self._descriptor, self._ring)

    def at(self, due_ns: int, then: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (due_ns, self._number, then))
        self._wind()

    def _ring(self) -> None:
        os.read(self._descriptor, 8)
        now = time.monotonic_ns()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        self._set_for = 0
        self._wind()

    def _wind(self) -> None:
        if not self._due or (self._set_for and self._set_for <= self._due[0][0]):
            return
        self._set_for = self._due[0][0]
        seconds, nanoseconds = divmod(self._set_for, 10**9)
        setting = _Setting(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        if self._libc.timerfd_settime(self._descriptor, ABSOLUTE, ctypes.byref(setting), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
