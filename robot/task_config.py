"""What a task asks of a robot, simulated or real: the same numbers make the same spec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from protos.trial import RobotSpec
from robot.frames import FrameLimits
from robot.observation import make_spec
from robot.safety import GRIPPER_AXIS

TaskName = Literal["reach", "pick"]

ACTION_NAMES: Mapping[TaskName, tuple[str, ...]] = {
    "reach": ("x", "y"),
    "pick": ("x", "y", "z", GRIPPER_AXIS),
}
"""What moves in a task."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One task and how the robot is driven at it."""

    task: TaskName = "reach"
    image_size: int = 84
    """Side of the square images the policy sees, pixels."""
    control_hz: float = 10.0
    max_steps: int = 25
    """Steps after which a trial is truncated."""
    action_scale_m: float = 0.0225
    """What an action of 1 means on x, y and z, metres per step."""
    gripper_scale: float = 0.25
    """What an action of 1 means on the gripper, opening per step."""
    reach_tolerance_m: float = 0.018
    """The held object within this of the target's centre, in the plane, is a success."""
    lift_height_m: float = 0.05
    """A grasped object this far above the table is a success."""
    frames: FrameLimits = field(default_factory=FrameLimits)

    def __post_init__(self) -> None:
        if self.task not in ACTION_NAMES:
            raise ValueError(f"task must be one of {sorted(ACTION_NAMES)}, got {self.task!r}")
        if not 8 <= self.image_size <= 1024:
            raise ValueError(f"image_size must be 8 .. 1024, got {self.image_size}")
        if not 1 <= self.max_steps <= 10_000:
            raise ValueError(f"max_steps must be 1 .. 10000, got {self.max_steps}")
        if not 1.0 <= self.control_hz <= 50.0:
            raise ValueError(f"control_hz must be 1 .. 50, got {self.control_hz}")
        for name in ("action_scale_m", "gripper_scale", "reach_tolerance_m", "lift_height_m"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")

    @property
    def period_ns(self) -> int:
        """Length of one control period, nanoseconds."""
        return round(1e9 / self.control_hz)

    def spec(self, camera_names: Sequence[str]) -> RobotSpec:
        """Returns the spec of a robot with these cameras at this task."""
        names = ACTION_NAMES[self.task]
        return make_spec(
            task=self.task,
            camera_names=camera_names,
            image_size=self.image_size,
            action_names=names,
            action_scale=[
                self.gripper_scale if name == GRIPPER_AXIS else self.action_scale_m
                for name in names
            ],
            control_hz=self.control_hz,
            max_steps=self.max_steps,
        )
