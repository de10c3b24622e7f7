"""What the guard holds a robot to: numbers of one cell, from a file on its own workstation.

Nothing that comes over a network or from the control loop changes them. A loop says its own limits
when it connects; one that would go further is refused, field by field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from robot.interfaces import StartPose
from robot.safety import SafetyLimits
from robot.xarm_config import MOST_M_S2, XArmConfig

FENCE_MARGIN_M = 0.02
"""Least way from the box to the controller's fence: reaching the fence is never the normal path."""
_SHORTEST_PERIOD_S = 0.02
# A float32 that went through a configuration as decimal digits and back is still the same limit.
_SAME = 1e-9


class LimitsRefused(RuntimeError):
    """A loop may not drive here; the message says why, a field a line."""


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """Where the tool of one arm may go, how fast, and how long it may go without being told."""

    box_low_m: tuple[float, float, float]
    """Lowest allowed tool position, base frame."""
    box_high_m: tuple[float, float, float]
    """Highest allowed tool position, base frame."""
    start: StartPose = field(
        default_factory=lambda: StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=1.0)
    )
    """Where trials begin; inside the box."""
    max_step_m: float = 0.05
    """Longest way from one target of the loop to its next. A longer one is a fault."""
    max_speed_m_s: float = 0.25
    """Greatest speed of the targets that are sent to the arm, along their path."""
    max_acceleration_m_s2: float = 2.0
    """The targets that are sent change their speed by no more than this."""
    hold_acceleration_m_s2: float = 10.0
    """An arm that is held brakes this hard, if it can: from 0.25 m/s it rests within 25 ms, where
    `max_acceleration_m_s2` would take 125. Not less than that."""
    max_lag_m: float = 0.15
    """The arm further than this from its target is a fault: it is blocked or not following."""
    max_outside_m: float = 0.03
    """The arm measured further than this outside the box is a fault."""
    max_tilt_rad: float = 0.1
    """The tool tilted further from straight down than this, in a trial, is a fault."""
    max_period_s: float = 0.2
    """A loop slower than this is refused: its silence would be noticed too late."""
    reset_reach_m: float = 0.3
    """A reset may begin this far outside the box; from further away a person brings the arm."""

    reset_speed_m_s: float = 0.15
    """Greatest speed of the targets on the way to a start."""
    crossing_height_m: float | None = 0.25
    """Height of the tool at which a reset crosses the table, inside the box: up, across, down. None
    to go straight to the start."""
    xarm: XArmConfig | None = None
    """The xArm and its controller's own limits, the outer ring around these; None for another
    arm."""

    def __post_init__(self) -> None:
        # The rules of the box and of what both have are the gate's.
        SafetyLimits(
            box_low_m=self.box_low_m,
            box_high_m=self.box_high_m,
            max_step_m=self.max_step_m,
            max_speed_m_s=self.max_speed_m_s,
            max_lag_m=self.max_lag_m,
            max_outside_m=self.max_outside_m,
        )
        for name in (
            "max_acceleration_m_s2",
            "hold_acceleration_m_s2",
            "max_tilt_rad",
            "max_period_s",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.hold_acceleration_m_s2 < self.max_acceleration_m_s2:
            raise ValueError(
                f"hold_acceleration_m_s2 {self.hold_acceleration_m_s2:g} is less than "
                f"max_acceleration_m_s2 {self.max_acceleration_m_s2:g}"
            )
        if self.max_period_s < _SHORTEST_PERIOD_S:
            raise ValueError(f"max_period_s must be at least {_SHORTEST_PERIOD_S}")
        if not (math.isfinite(self.reset_reach_m) and self.reset_reach_m >= 0):
            raise ValueError(f"reset_reach_m must not be negative, got {self.reset_reach_m}")
        if not self.contains(self.start.position_m) or not 0 <= self.start.gripper_opening <= 1:
            raise ValueError(f"start {self.start} is outside the box")
        crossing = self.crossing_height_m
        if crossing is not None and not self.box_low_m[2] <= crossing <= self.box_high_m[2]:
            raise ValueError(f"crossing_height_m {crossing} is outside the box")
        if not 0 < self.reset_speed_m_s <= self.max_speed_m_s:
            raise ValueError(
                f"reset_speed_m_s must be more than 0 and no more than max_speed_m_s "
                f"{self.max_speed_m_s:g}, got {self.reset_speed_m_s:g}"
            )
        if self.xarm is not None:
            self._check_xarm(self.xarm)

    def _check_xarm(self, xarm: XArmConfig) -> None:
        """ValueError unless the controller keeps the arm within these limits by itself too."""
        for axis, name in enumerate("xyz"):
            room_m = min(
                self.box_low_m[axis] - xarm.fence_low_m[axis],
                xarm.fence_high_m[axis] - self.box_high_m[axis],
            )
            if room_m < FENCE_MARGIN_M - _SAME:
                raise ValueError(
                    f"xarm: in {name} the box is {1000 * room_m:.0f} mm inside the fence, "
                    f"{1000 * FENCE_MARGIN_M:.0f} mm are needed on either side: a fence that is "
                    "reached in motion stops the arm with C35, and a person drives it out"
                )
        if self.hold_acceleration_m_s2 > MOST_M_S2:
            raise ValueError(f"hold_acceleration_m_s2 is more than the xArm's {MOST_M_S2:g}")
        for theirs, ours in (
            ("speed_m_s", "max_speed_m_s"),
            ("acceleration_m_s2", "max_acceleration_m_s2"),
        ):
            if getattr(xarm, theirs) > getattr(self, ours) + _SAME:
                raise ValueError(
                    f"xarm.{theirs} {getattr(xarm, theirs):g} is more than {ours} "
                    f"{getattr(self, ours):g}"
                )

    def contains(self, position_m: tuple[float, float, float], margin_m: float = 0.0) -> bool:
        """Whether a place is in the box widened by `margin_m`; False for what is not finite."""
        return all(
            low - margin_m <= x <= high + margin_m
            for low, x, high in zip(self.box_low_m, position_m, self.box_high_m, strict=True)
        )

    def excess_of(self, period_s: float, loop: SafetyLimits) -> list[str]:
        """Returns, a field a line, where a loop would go further than the guard lets it.

        Args:
            period_s: Time between two of its targets.
            loop: The limits of its own gate.
        """
        found = []
        if not _SHORTEST_PERIOD_S <= period_s <= self.max_period_s:
            found.append(
                f"period: the loop has {period_s:g} s, the guard allows {_SHORTEST_PERIOD_S:g} to "
                f"{self.max_period_s:g}"
            )
        for axis, name in enumerate("xyz"):
            low, high = self.box_low_m[axis], self.box_high_m[axis]
            if loop.box_low_m[axis] < low - _SAME:
                found.append(
                    f"box_low_m {name}: the loop has {loop.box_low_m[axis]:g}, not {low:g}"
                )
            if loop.box_high_m[axis] > high + _SAME:
                found.append(
                    f"box_high_m {name}: the loop has {loop.box_high_m[axis]:g}, not {high:g}"
                )
        for name in ("max_step_m", "max_speed_m_s"):
            wished, allowed = getattr(loop, name), getattr(self, name)
            if wished > allowed + _SAME:
                found.append(f"{name}: the loop has {wished:g}, the guard allows {allowed:g}")
        return found
