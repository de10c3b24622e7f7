"""What becomes of each frame of a stream: refused, or numbered and dated on our clock.

A camera stamps its frames by a clock of its own. How that clock compares with ours is learnt from
the frames: stamp and arrival differ by a constant plus the delay of that frame, so the least
difference seen belongs to the least delayed one. It may grow again only as fast as two quartzes
drift apart. A frame that was held up on its way is therefore dated by when it was taken, not by
when it came, and stays old however many follow it with the same delay. The least delay itself
cannot be learnt from arrivals: frames are older than dated by that much, tens of milliseconds.

Numbers and dates only ever grow, also over restarts of the stream.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from robot.realsense_config import CaptureCounts

MAX_DRIFT = 2e-4
"""Two quartz clocks at their worst, seconds a second."""
AGREEMENT_NS = 250_000_000
"""Frames whose delays differ by more do not agree about the camera's clock."""
SAME_CLOCK_NS = 5_000_000_000
"""After a restart, frames that seem delayed by more than this come from a clock that was reset."""
WRAP_NS = 2**32 * 1000
"""The hardware counts microseconds in 32 bits and begins again after 71 minutes."""


class Stamp(NamedTuple):
    """Number and date of a frame that is shown."""

    frame_number: int
    t_ns: int
    """When it was taken, on our clock; never later than it arrived."""


class FrameIntake:
    """Judges the frames of one camera as they arrive. One thread at a time.

    Args:
        num_warm_up: Frames after each start that are not shown. They must agree about the clock;
            one that does not begins the warm-up anew.
        late_ns: A frame older than this on arrival is counted as late.
        is_dated_on_arrival: Frames are dated by when they came, for a recording whose reader sets
            the pace.
    """

    def __init__(
        self, *, num_warm_up: int, late_ns: int, is_dated_on_arrival: bool = False
    ) -> None:
        self.counts = CaptureCounts()
        """What came so far."""
        self._num_warm_up = num_warm_up
        self._late_ns = late_ns
        self._is_dated_on_arrival = is_dated_on_arrival
        self._offset_ns: float | None = None
        self._shown: Stamp | None = None
        self._arrived_ns = 0
        self._begin()

    def restart(self) -> None:
        """Expects the camera's numbers, and perhaps its clock, to begin anew."""
        self._count(num_restarts=1)
        self._begin()

    def drop_global(self) -> None:
        """Counts a frame that the host stamped before it was told to leave that to the camera."""
        self._count(num_global=1)

    def take(
        self, number: int, device_ns: int, arrived_ns: int, *, is_frozen: bool = False
    ) -> Stamp | None:
        """Returns how the frame is to be shown, or None if it is not.

        Args:
            number: The camera's number of it.
            device_ns: The camera's time stamp.
            arrived_ns: When it came, on our clock; not before the frame that came before it.
            is_frozen: It shows nothing but the frame before.
        """
        wrapped_ns = self._wrapped_ns
        if device_ns + wrapped_ns < self._device_ns - WRAP_NS // 2:
            wrapped_ns += WRAP_NS
        device_ns += wrapped_ns
        if not self._is_in_order(number, device_ns) or not self._learn_clock(device_ns, arrived_ns):
            return None
        num_missed = 0 if self._number is None else number - self._number - 1
        if self._number is None:
            # The first number of a start follows the last one shown, whatever the camera says.
            self._base -= number - 1
        self._number, self._device_ns, self._wrapped_ns = number, device_ns, wrapped_ns
        self._arrived_ns = arrived_ns
        if is_frozen:
            self._count(num_frozen=1)
            return None
        if self._num_left > 0:
            self._num_left -= 1
            self._count(num_warm_up=1)
            return None
        taken_ns = arrived_ns
        if not self._is_dated_on_arrival:
            assert self._offset_ns is not None
            taken_ns = min(device_ns + round(self._offset_ns), arrived_ns)
        if self._shown is not None:
            taken_ns = max(taken_ns, self._shown.t_ns)
        is_late = arrived_ns - taken_ns > self._late_ns
        self._count(num_shown=1, num_missed=num_missed, num_late=int(is_late))
        self._shown = Stamp(self._base + number, taken_ns)
        return self._shown

    def _begin(self) -> None:
        self._num_left = self._num_warm_up
        self._is_learnt = False
        self._number: int | None = None
        self._device_ns = 0
        self._wrapped_ns = 0
        self._base = self._shown.frame_number if self._shown is not None else 0

    def _is_in_order(self, number: int, device_ns: int) -> bool:
        if self._number is None:
            return True
        if number == self._number:
            self._count(num_repeated=1)
            return False
        if number < self._number or device_ns < self._device_ns:
            self._count(num_back=1)
            return False
        return True

    def _learn_clock(self, device_ns: int, arrived_ns: int) -> bool:
        """Takes in one more difference of the clocks; returns whether it can be true."""
        if self._is_dated_on_arrival:
            return True
        seen_ns = arrived_ns - device_ns
        if self._offset_ns is None:
            self._offset_ns = seen_ns
            return True
        expected_ns = self._offset_ns + MAX_DRIFT * (arrived_ns - self._arrived_ns)
        ahead_ns = expected_ns - seen_ns
        if self._number is None:
            # What was learnt before a restart holds on, or the lag behind it would be forgotten.
            self._is_learnt = -SAME_CLOCK_NS < ahead_ns < AGREEMENT_NS
            self._offset_ns = min(expected_ns, seen_ns) if self._is_learnt else seen_ns
            return True
        if not self._is_learnt and self._num_left > 0 and abs(ahead_ns) > AGREEMENT_NS:
            self._offset_ns, self._num_left = seen_ns, self._num_warm_up
            return True
        if ahead_ns > AGREEMENT_NS:
            self._count(num_ahead=1)
            return False
        self._offset_ns = min(expected_ns, seen_ns)
        return True

    def _count(self, **more: int) -> None:
        added = {name: getattr(self.counts, name) + number for name, number in more.items()}
        self.counts = dataclasses.replace(self.counts, **added)
