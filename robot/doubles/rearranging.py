"""Moves the target of a simulated workspace between trials, as a person would on a real table.

Nobody tells when a trial ends. The arm shows it: a reset crosses the table high above where trials
happen, and while the tool is up there the target is laid somewhere else.
"""

from __future__ import annotations

import numpy as np

from robot.sim.config import TABLE_MARGIN_M
from robot.sim.objects import PRISM_HEIGHT_M
from robot.sim.world import SimWorld

_MOVED = {"reach": ("target", 0.001), "pick": ("object", PRISM_HEIGHT_M / 2)}
"""What is moved in a task, and the height of its middle on the table."""


class Rearranger:
    """Watches the tool's height and moves the task's object once for each time it rises.

    Args:
        world: The workspace.
        height_m: The tool above this is out of the way.
        seed: Decides the places.
    """

    def __init__(self, world: SimWorld, height_m: float, seed: int = 0) -> None:
        self._world, self._height_m = world, height_m
        self._rng = np.random.default_rng(seed)
        self._is_up = False
        limits = world.config.limits
        self._low = np.array(limits.box_low_m[:2]) + TABLE_MARGIN_M
        self._high = np.array(limits.box_high_m[:2]) - TABLE_MARGIN_M

    def look(self) -> bool:
        """Looks at the arm; returns whether something was moved."""
        was_up, self._is_up = self._is_up, float(self._world.tool_pose()[0][2]) > self._height_m
        if was_up or not self._is_up:
            return False
        name, height_m = _MOVED[self._world.config.task]
        place = self._rng.uniform(self._low, self._high)
        self._world.place_body(name, np.array([*place, height_m]))
        return True
