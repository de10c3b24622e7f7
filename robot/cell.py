"""A real arm's workspace: what is asked of it, and where its trials begin.

Nobody knows where things are on a real table, and nothing arranges them: a trial begins with the
objects where they lie. What is drawn from the seed is where the tool starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot.frames import FrameLimits
from robot.guard_limits import GuardLimits
from robot.interfaces import StartPose
from robot.realsense_config import RealSenseConfig
from robot.safety import SafetyLimits
from robot.sim.config import EVAL_POSITIONS, START_MARGIN_M
from robot.task_config import TaskConfig

_HELD_S = 0.075
# From a frame that is too old to an arm at rest: found 5 ms late, told to guard and controller in
# 10 ms, braked in 35 (`GuardLimits.hold_acceleration_m_s2`); the rest is for a machine with work.
_LONGEST_S = 0.15
# Longer is not waited for where there is time: four frames of a 30 Hz camera are missing by then.
_FRAMES = 2.25


@dataclass(frozen=True, kw_only=True)
class CellConfig(TaskConfig):
    """One task at one real arm. Equal numbers make the spec of the simulated robot."""

    stream: RealSenseConfig = field(default_factory=RealSenseConfig)
    """The colour stream of every camera; names are given with the cameras."""
    frames: FrameLimits = field(default_factory=lambda: FrameLimits(max_age_s=0.1))
    """When a frame is too old for a tick to act upon."""
    start_margin_m: float = START_MARGIN_M
    """Trials start this far inside the limits' box, in the plane, or further."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.start_margin_m) and self.start_margin_m >= 0):
            raise ValueError(f"start_margin_m must not be negative, got {self.start_margin_m}")
        if self.lookout_age_s >= self.frames.fault_age_s:
            raise ValueError(
                f"frames.fault_age_s {self.frames.fault_age_s:g} is not more than the "
                f"{self.lookout_age_s:g} s after which the arm is held between two ticks"
            )
        if self.stream.stall_s < self.frames.fault_age_s:
            raise ValueError(
                f"stream.stall_s {self.stream.stall_s:g} is less than frames.fault_age_s "
                f"{self.frames.fault_age_s:g}: a camera that died in a trial might be back before "
                "its silence is a fault"
            )
        if self.image_size > min(self.stream.width, self.stream.height):
            raise ValueError(
                f"image_size {self.image_size} is more than the stream's {self.stream.mode}"
            )

    @property
    def lookout_age_s(self) -> float:
        """How old a camera's newest frame becomes between two ticks before the arm is held.

        The arm rests two periods and 50 ms after the last frame, or sooner; a camera that is slower
        than that is given two and a quarter of its own periods.
        """
        bound_s = 2.0 / self.control_hz + 0.05
        return max(min(bound_s - _HELD_S, _LONGEST_S), _FRAMES / self.stream.fps)


def gate_limits(limits: GuardLimits) -> SafetyLimits:
    """Returns what the loop's own gate holds to: as much as the guard allows, and no more."""
    return SafetyLimits(
        box_low_m=limits.box_low_m,
        box_high_m=limits.box_high_m,
        max_step_m=limits.max_step_m,
        max_speed_m_s=limits.max_speed_m_s,
        max_lag_m=limits.max_lag_m,
        max_outside_m=limits.max_outside_m,
    )


class CellTask:
    """Starts trials at the height and gripper opening of the limits' start pose.

    The place in the plane is drawn from the seed, or is that of the fixed position.

    Args:
        limits: Of the cell.
        margin_m: How far inside the box trials start.

    Raises:
        ValueError: The box is too small for the margin.
    """

    def __init__(self, limits: GuardLimits, margin_m: float) -> None:
        self._low = np.array(limits.box_low_m[:2]) + margin_m
        self._high = np.array(limits.box_high_m[:2]) - margin_m
        if np.any(self._low > self._high):
            raise ValueError(f"start_margin_m {margin_m:g} leaves nothing of the box")
        self._start = limits.start

    def begin(self, seed: int, position_index: int | None) -> StartPose:
        """Returns where the arm starts; see `Task.begin`."""
        if position_index is None:
            fraction = np.random.default_rng(seed).uniform(size=2)
        else:
            fraction = np.array(EVAL_POSITIONS[position_index][1])
        x, y = (float(n) for n in self._low + fraction * (self._high - self._low))
        return StartPose(
            position_m=(x, y, self._start.position_m[2]),
            gripper_opening=self._start.gripper_opening,
        )

    def truth(self) -> Mapping[str, Any] | None:
        """Returns None: nobody knows."""
        return None
