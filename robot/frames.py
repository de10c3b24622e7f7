"""Whether a camera still shows what is: how old its frames are, and in which order they come.

A camera that hangs goes on answering: with the same frame, with the same frame under a new time
stamp, or with frames of before. What is shown is dated by the moment it was first shown, whatever
its stamp says later, so that no stale frame passes for a fresh one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from robot.interfaces import Frame, RobotFault


@dataclass(frozen=True, kw_only=True)
class FrameLimits:
    """How old a camera's newest frame may be."""

    max_age_s: float = 0.2
    """An older frame is not acted upon, the arm holds: two periods of a 10 Hz loop."""
    fault_age_s: float = 1.0
    """A camera that has shown nothing newer for longer is a fault, which a person clears."""

    def __post_init__(self) -> None:
        if not 0 < self.max_age_s < self.fault_age_s < math.inf:
            raise ValueError(
                f"need 0 < max_age_s < fault_age_s, got {self.max_age_s} and {self.fault_age_s}"
            )


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What a frame is worth at the moment it was read."""

    taken_ns: int
    """When what it shows was taken, monotonic; never later than the moment it was read."""
    is_stale: bool
    """Not to be acted upon: too old, or shown out of order."""


class _InOrder(NamedTuple):
    """The newest frame that came in order."""

    number: int
    t_ns: int
    taken_ns: int


class FrameWatch:
    """Judges the frames of one camera, in the order they are read.

    A frame with the number of the newest one is that one again, as old as it was when it first
    came. A number or a time stamp that goes back is stale, however new it claims to be, and counts
    for nothing: the age that makes a fault is that of the newest frame in order.

    Args:
        name: Of the camera, for messages.
        limits: How old is too old.
    """

    def __init__(self, name: str, limits: FrameLimits) -> None:
        self._name = name
        self._limits = limits
        self._max_age_ns = round(limits.max_age_s * 1e9)
        self._fault_age_ns = round(limits.fault_age_s * 1e9)
        self._newest: _InOrder | None = None

    def judge(self, frame: Frame, *, asked_ns: int, read_ns: int) -> Sighting:
        """Returns what `frame` is worth.

        Args:
            frame: As the camera gave it.
            asked_ns: When the camera was asked, on the clock of its time stamps. A frame is a fault
                by its age then: how long the answer took is the next frame's matter.
            read_ns: When it had answered. A frame is stale by its age then.

        Raises:
            RobotFault: `camera_stale`, nothing newer has come for too long; `camera_clock`, the
                time stamps are ahead of the clock and can be of no use.
        """
        if frame.t_ns - read_ns > self._max_age_ns:
            raise RobotFault(
                "camera_clock",
                f"camera {self._name} stamps a frame {(frame.t_ns - read_ns) / 1e9:.3f} s ahead of "
                "the clock",
            )
        taken_ns, newest, is_back = min(frame.t_ns, read_ns), self._newest, False
        if newest is None or (frame.frame_number > newest.number and frame.t_ns >= newest.t_ns):
            newest = self._newest = _InOrder(frame.frame_number, frame.t_ns, taken_ns)
        else:
            is_back = frame.frame_number != newest.number or frame.t_ns < newest.t_ns
            taken_ns = min(taken_ns, newest.taken_ns)
        if asked_ns - newest.taken_ns > self._fault_age_ns:
            raise RobotFault(
                "camera_stale",
                f"camera {self._name} shows {'frames out of order' if is_back else 'nothing new'}: "
                f"its newest frame, number {newest.number}, is "
                f"{(asked_ns - newest.taken_ns) / 1e9:.3f} s old; {self._limits.fault_age_s:g} s "
                "are allowed",
            )
        is_old = read_ns - taken_ns > self._max_age_ns
        return Sighting(taken_ns=taken_ns, is_stale=is_back or is_old)

    def forget(self) -> None:
        """Takes the next frame for the first one: a person has seen to the camera."""
        self._newest = None
