"""What a simulated workspace is: task, variation, camera size, and where things are placed.

Nothing here needs MuJoCo, so that configuration can be read on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robot.safety import SafetyLimits
from robot.task_config import TaskConfig

Range = tuple[float, float]

VARIATIONS: Mapping[str, tuple[str, ...]] = {
    "reach": ("none", "distractor", "tool_offset", "green_target"),
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
START_MARGIN_M = 0.06
"""The starting area ends this far inside the box."""

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
class SimConfig(TaskConfig):
    """One simulated workspace with its task."""

    variation: str = "none"
    """One of `VARIATIONS[task]`."""
    target_region: str = "whole"
    """Where targets (reach) or objects (pick) are placed at random; one of `REGIONS`."""
    render_size: int = 224
    """Side of the square images the camera renders, pixels."""
    limits: SafetyLimits = field(default_factory=SafetyLimits)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variation not in VARIATIONS[self.task]:
            raise ValueError(
                f"variation of {self.task} must be one of {VARIATIONS[self.task]}, "
                f"got {self.variation!r}"
            )
        if self.target_region not in REGIONS:
            raise ValueError(
                f"target_region must be one of {sorted(REGIONS)}, got {self.target_region!r}"
            )
        if not self.image_size <= self.render_size <= 1024:
            raise ValueError("need 8 <= image_size <= render_size <= 1024")
