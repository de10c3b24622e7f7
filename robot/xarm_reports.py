"""Where the arm is, from the report its controller sends a hundred times a second."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot.clock import Clock
from robot.xarm_units import to_m

_PERIOD_NS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the controller said of the arm at one moment."""

    position_m: tuple[float, float, float]
    rotation_rad: tuple[float, float, float]
    state: int
    """Of the controller: 1 moving, 2 standing by, 3 paused, 4 and 5 stopped."""
    t_ns: int

    @classmethod
    def from_pose(cls, pose: list[float], state: int, t_ns: int) -> Measured:
        """Returns what a pose in millimetres and radians says. [6]"""
        roll, pitch, yaw = pose[3:6]
        return cls(
            position_m=to_m(pose[:3]), rotation_rad=(roll, pitch, yaw), state=state, t_ns=t_ns
        )


class MotionReports:
    """The newest report, dated by its arrival, unless that says nothing about its age.

    Reports carry no time. One that arrives a period after the one before it is new; one that comes
    after a gap, or right behind another, may have waited in a buffer while this process or the
    network stood still, and is not used.

    Args:
        clock: Dates the reports.
        max_age_s: An older report is not used.
    """

    def __init__(self, clock: Clock, max_age_s: float) -> None:
        self._clock = clock
        self._max_age_ns = round(max_age_s * 1e9)
        self._lock = threading.Lock()
        self._newest: Measured | None = None
        self._is_dated = False

    def take(self, item: Mapping[str, Any]) -> None:
        """Takes a report, in the thread of whoever reads them."""
        now_ns = self._clock.now_ns()
        measured = Measured.from_pose(item["cartesian"], item["state"], now_ns)
        with self._lock:
            before = self._newest
            since_ns = 0 if before is None else now_ns - before.t_ns
            self._is_dated = _PERIOD_NS * 3 // 10 <= since_ns <= _PERIOD_NS * 3
            self._newest = measured

    def fresh(self) -> Measured | None:
        """Returns the newest report, or None if it is too old or of unknown age."""
        with self._lock:
            newest, is_dated = self._newest, self._is_dated
        if newest is None or not is_dated:
            return None
        return newest if self._clock.now_ns() - newest.t_ns <= self._max_age_ns else None
