"""The way of a reset: straight up, across at a safe height, straight down; and when it is there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robot.interfaces import ArmState


@dataclass(frozen=True, kw_only=True)
class ResetWay:
    """How a driver goes to a start by itself. An arm behind a guard is led there by the guard, with
    `GuardLimits.reset_speed_m_s` and `crossing_height_m`."""

    speed_m_s: float = 0.15
    acceleration_m_s2: float = 1.0
    height_m: float = 0.25
    """Of the tool, base frame, on its way across."""
    timeout_s: float = 20.0
    """A reset that has not arrived by then is a fault."""


Place = tuple[float, float, float]
_NUM_STILL = 5
_STILL_M = 0.0003
# Shorter moves are left out: the controller answers them like any other, for nothing.
_SHORT_M = 1e-4


def reset_path(start_m: Place, goal_m: Place, safe_height_m: float) -> list[Place]:
    """Returns the places to stop at between `start_m` and `goal_m`, the goal last, all in metres.

    The tool crosses at the safe height, or higher where start or goal are higher.
    """
    height_m = max(start_m[2], goal_m[2], safe_height_m)
    places = [(start_m[0], start_m[1], height_m), (goal_m[0], goal_m[1], height_m), goal_m]
    path, here = [], start_m
    for place in places:
        if math.dist(place, here) > _SHORT_M:
            path.append(place)
            here = place
    return path or [goal_m]


class Arrival:
    """Whether the tool has come to rest at a place.

    Args:
        place_m: Where it is to come.
        tolerance_m: How near that is.
    """

    def __init__(self, place_m: Place, tolerance_m: float) -> None:
        self.distance_m = math.inf
        """How far it was at the last look."""
        self._place_m, self._tolerance_m = place_m, tolerance_m
        self._last_m: Place | None = None
        self._num_still = 0

    def take(self, state: ArmState) -> bool:
        """Takes one state; returns whether the tool is there and has stood still for a while."""
        self.distance_m = math.dist(state.position_m, self._place_m)
        is_still = self._last_m is not None and math.dist(state.position_m, self._last_m) < _STILL_M
        is_there = self.distance_m <= self._tolerance_m
        self._num_still = self._num_still + 1 if is_still and is_there else 0
        self._last_m = state.position_m
        return self._num_still >= _NUM_STILL
