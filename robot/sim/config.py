"""What a simulated workspace is: task, variation, camera size, and where things are placed.

Nothing here needs MuJoCo, so that configuration can be read on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from robot.frames import FrameLimits
from robot.safety import SafetyLimits

TaskName = Literal["reach", "pick"]
Range = tuple[float, float]

VARIATIONS: Mapping[str, tuple[str, ...]] = {
    "reach": ("none", "distractor", "tool_offset"),
    "pick": ("none", "distractors", "green_octagon"),
}
"""Named changes of a task; `none` is the task as offline data shows it."""

REGIONS: Mapping[str, tuple[Range, Range]] = {
    "whole": ((0.0, 1.0), (0.0, 1.0)),
    "near": ((0.0, 0.5), (0.0, 1.0)),
    "far": ((0.5, 1.0), (0.0, 1.0)),
    "right": ((0.0, 1.0), (0.0, 0.5)),
    "left": ((0.0, 1.0), (0.5, 1.0)),
    "near_right": ((0.0, 0.5), (0.0, 0.5)),
    "near_left": ((0.0, 0.5), (0.5, 1.0)),
    "far_right": ((0.5, 1.0), (0.0, 0.5)),
    "far_left": ((0.5, 1.0), (0.5, 1.0)),
    "centre": ((0.25, 0.75), (0.25, 0.75)),
}
"""Parts of the placing area as fractions (low, high) along x, away from the base, and along y,
from the arm's right to its left."""

TABLE_MARGIN_M = 0.02
"""The placing area ends this far inside the box: 26 x 26 cm of the 30 x 30."""

EVAL_POSITIONS: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = (
    ((0.1, 0.05), (0.3, 0.95)),
    ((0.1, 0.23), (0.7, 0.77)),
    ((0.1, 0.41), (0.9, 0.7)),
    ((0.1, 0.59), (0.9, 0.3)),
    ((0.1, 0.77), (0.7, 0.23)),
    ((0.1, 0.95), (0.4, 0.05)),
    ((0.5, 0.05), (0.1, 0.95)),
    ((0.5, 0.23), (0.9, 0.77)),
    ((0.5, 0.41), (0.1, 0.7)),
    ((0.5, 0.59), (0.1, 0.3)),
    ((0.5, 0.77), (0.1, 0.23)),
    ((0.5, 0.95), (0.9, 0.05)),
    ((0.9, 0.05), (0.4, 0.95)),
    ((0.9, 0.23), (0.3, 0.77)),
    ((0.9, 0.41), (0.2, 0.7)),
    ((0.9, 0.59), (0.2, 0.3)),
    ((0.9, 0.77), (0.3, 0.23)),
    ((0.9, 0.95), (0.7, 0.05)),
)
"""The fixed evaluation positions, 6 across by 3 deep: where the target or object is, a fraction of
the placing area, and where the tool starts, a fraction of the starting area."""


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """One simulated workspace with its task."""

    task: TaskName = "reach"
    variation: str = "none"
    """One of `VARIATIONS[task]`."""
    target_region: str = "whole"
    """Where targets (reach) or objects (pick) are placed at random; one of `REGIONS`."""
    image_size: int = 84
    """Side of the square images the policy sees, pixels."""
    render_size: int = 224
    """Side of the square images the camera renders, pixels."""
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
    limits: SafetyLimits = field(default_factory=SafetyLimits)
    frames: FrameLimits = field(default_factory=FrameLimits)

    def __post_init__(self) -> None:
        if self.task not in VARIATIONS:
            raise ValueError(f"task must be one of {sorted(VARIATIONS)}, got {self.task!r}")
        if self.variation not in VARIATIONS[self.task]:
            raise ValueError(
                f"variation of {self.task} must be one of {VARIATIONS[self.task]}, "
                f"got {self.variation!r}"
            )
        if self.target_region not in REGIONS:
            raise ValueError(
                f"target_region must be one of {sorted(REGIONS)}, got {self.target_region!r}"
            )
        if not 8 <= self.image_size <= self.render_size <= 1024:
            raise ValueError("need 8 <= image_size <= render_size <= 1024")
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
