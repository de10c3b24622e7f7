"""The wall clock of this machine: whether something keeps it right, and whether it jumps."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from dataclasses import dataclass

_UNSYNCHRONISED = 0x40


@dataclass(frozen=True, kw_only=True)
class ClockState:
    """What the kernel says of its clock."""

    is_synchronised: bool
    max_error_s: float
    """How far off it may be, by the kernel's own estimate."""


class _Timex(ctypes.Structure):
    """`struct timex` of Linux as far as it is read, with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock_state() -> ClockState:
    """Asks the kernel, which knows it from NTP or PTP; changes nothing.

    Raises:
        OSError: It does not tell, or this is not Linux.
    """
    if sys.platform != "linux":
        raise OSError("only Linux says whether its clock is synchronised")
    timex = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the kernel does not tell: {os.strerror(number)}")
    return ClockState(
        is_synchronised=not timex.status & _UNSYNCHRONISED, max_error_s=timex.maxerror / 1e6
    )


def wall_minus_monotonic_ns() -> int:
    """Returns the difference of the two clocks: steady unless the wall clock jumps."""
    return time.time_ns() - time.monotonic_ns()
