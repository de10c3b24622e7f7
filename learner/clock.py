"""Time as the learner needs it, so that tests can bring their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and lets it pass."""

    def monotonic_s(self) -> float:
        """Returns seconds since some moment; never goes back."""
        ...

    def unix_ns(self) -> int:
        """Returns the wall clock."""
        ...

    def sleep_s(self, seconds: float, /) -> None:
        """Lets time pass."""
        ...


class SystemClock:
    """The computer's clock."""

    monotonic_s = staticmethod(time.monotonic)
    unix_ns = staticmethod(time.time_ns)
    sleep_s = staticmethod(time.sleep)
