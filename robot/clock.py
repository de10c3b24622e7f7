"""Time as the robot side sees it: a monotonic clock, a simulated one, and ticks without drift."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Monotonic nanoseconds and a way to wait for them."""

    def now_ns(self) -> int:
        """Returns the present time; never less than the time before."""
        ...

    def sleep_until_ns(self, t_ns: int) -> None:
        """Returns at `t_ns` or later; at once if that is past."""
        ...


class MonotonicClock:
    """The operating system's monotonic clock, shared by all processes of one machine."""

    def now_ns(self) -> int:
        """Returns the present time."""
        return time.monotonic_ns()

    def sleep_until_ns(self, t_ns: int) -> None:
        """Sleeps until `t_ns`."""
        while (left := t_ns - time.monotonic_ns()) > 0:
            time.sleep(left * 1e-9)


class SimulatedClock:
    """A clock that moves only when someone waits or advances it: fast and repeatable."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Returns the present time."""
        return self._now_ns

    def sleep_until_ns(self, t_ns: int) -> None:
        """Makes it `t_ns`, or leaves the time alone if that is past."""
        self._now_ns = max(self._now_ns, t_ns)

    def advance(self, duration_ns: int) -> None:
        """Lets `duration_ns` pass, as work of that length would."""
        if duration_ns < 0:
            raise ValueError(f"time runs forward only, got {duration_ns} ns")
        self._now_ns += duration_ns


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One beat of a `Ticker`."""

    index: int
    """Number of periods since the start; missed ticks leave gaps."""
    scheduled_ns: int
    """When it was due: start + index * period."""
    late_ns: int
    """How long after that it was delivered; always less than one period."""


class Ticker:
    """Ticks at absolute deadlines, so that lateness of one tick never moves the next.

    A tick whose whole period has passed before it could be delivered is skipped and counted in
    `num_missed`; ticks are never delivered in a burst to catch up.
    """

    def __init__(self, clock: Clock, period_ns: int) -> None:
        if period_ns <= 0:
            raise ValueError(f"period_ns must be positive, got {period_ns}")
        self.period_ns = period_ns
        self.num_missed = 0
        """Ticks skipped since `start`."""
        self._clock = clock
        self._start_ns: int | None = None
        self._next_index = 0

    def start(self) -> None:
        """Makes this moment tick 0 and forgets what was missed before."""
        self._start_ns = self._clock.now_ns()
        self._next_index = 0
        self.num_missed = 0

    def wait(self) -> Tick:
        """Returns the next tick, at its deadline or as soon after it as possible."""
        if self._start_ns is None:
            raise RuntimeError("call start() before wait()")
        self._clock.sleep_until_ns(self._start_ns + self._next_index * self.period_ns)
        now_ns = self._clock.now_ns()
        index = max(self._next_index, (now_ns - self._start_ns) // self.period_ns)
        self.num_missed += index - self._next_index
        self._next_index = index + 1
        scheduled_ns = self._start_ns + index * self.period_ns
        return Tick(index=index, scheduled_ns=scheduled_ns, late_ns=now_ns - scheduled_ns)
