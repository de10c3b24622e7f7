"""The simulated tasks: where things are placed for a trial, and where they really are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robot.interfaces import StartPose
from robot.sim.arm_model import FINGER_TRAVEL_M
from robot.sim.config import EVAL_POSITIONS, REGIONS, START_MARGIN_M, TABLE_MARGIN_M, SimConfig
from robot.sim.objects import PRISM_HEIGHT_M, PRISM_RADIUS_M, TOOL_OFFSET_M
from robot.sim.world import SimWorld

REACH_HEIGHT_M = 0.07
"""Height of the tool in reach, all trial long; the held object floats 2.5 cm above the table."""
PICK_HEIGHT_M = 0.16
"""Height of the tool where a pick starts."""
MIN_START_DISTANCE_M = 0.06
"""No trial starts with the held object nearer to the target than this."""
CLEARANCE_M = 0.07
"""Distractors are placed at least this far from everything else."""
HOLDING_OPENING = PRISM_RADIUS_M * float(np.cos(np.pi / 6)) / FINGER_TRAVEL_M
"""Gripper opening around a prism."""


class Placement:
    """Draws places in the plane of the table.

    Args:
        config: The box and the region.
        seed: Decides the draws.
        position_index: A fixed evaluation position instead; it decides the draws then.
    """

    def __init__(self, config: SimConfig, seed: int, position_index: int | None) -> None:
        if position_index is not None and not 0 <= position_index < len(EVAL_POSITIONS):
            raise ValueError(
                f"position_index must be 0 .. {len(EVAL_POSITIONS) - 1}, got {position_index}"
            )
        self._low = np.array(config.limits.box_low_m[:2])
        self._high = np.array(config.limits.box_high_m[:2])
        self._region = np.array(REGIONS[config.target_region]).T
        self._fixed = None if position_index is None else EVAL_POSITIONS[position_index]
        self.rng = np.random.default_rng(seed if position_index is None else position_index)

    def place(self) -> np.ndarray:
        """Returns where the target or object goes. [2]"""
        fraction = self.rng.uniform(*self._region) if self._fixed is None else self._fixed[0]
        return self._at(fraction, TABLE_MARGIN_M)

    def start(self) -> np.ndarray:
        """Returns where the tool starts. [2]"""
        fraction = self.rng.uniform(size=2) if self._fixed is None else self._fixed[1]
        return self._at(fraction, START_MARGIN_M)

    def distractor(self, others: list[np.ndarray]) -> np.ndarray:
        """Returns a place clear of all `others`. [2]"""
        for _ in range(1000):
            place = self._at(self.rng.uniform(size=2), TABLE_MARGIN_M)
            if all(float(np.linalg.norm(place - other)) >= CLEARANCE_M for other in others):
                return place
        raise ValueError("the box is too small for the distractors")

    def _at(self, fraction: np.ndarray | tuple[float, float], margin_m: float) -> np.ndarray:
        low, high = self._low + margin_m, self._high - margin_m
        return low + np.asarray(fraction) * (high - low)


class ReachTask:
    """Bring the held red object above the blue target; only x and y move."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    def begin(self, seed: int, position_index: int | None) -> StartPose:
        """Places target and distractor; see `Task.begin`."""
        config = self._world.config
        placement = Placement(config, seed, position_index)
        offset = np.array(TOOL_OFFSET_M) if config.variation == "tool_offset" else np.zeros(2)
        start, target = placement.start(), placement.place()
        # The fixed positions are far enough apart as they are.
        while (
            position_index is None
            and float(np.linalg.norm(start + offset - target)) < MIN_START_DISTANCE_M
        ):
            start, target = placement.start(), placement.place()
        self._world.reset()
        self._world.place_body("target", np.array([*target, 0.001]))
        if config.variation == "distractor":
            place = placement.distractor([start, target])
            yaw_rad = placement.rng.uniform(0, np.pi)
            self._world.place_body("distractor", np.array([*place, PRISM_HEIGHT_M / 2]), yaw_rad)
        return StartPose(
            position_m=(float(start[0]), float(start[1]), REACH_HEIGHT_M),
            gripper_opening=HOLDING_OPENING,
        )

    def truth(self) -> Mapping[str, Any]:
        """Returns `held_m`, the bottom of the held object, and `target_m`, each [3]."""
        self._world.advance()
        return {
            "held_m": self._world.site_position("held_bottom"),
            "target_m": self._world.body_position("target"),
        }


class PickTask:
    """Grasp the object on the table and lift it."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    def begin(self, seed: int, position_index: int | None) -> StartPose:
        """Places object and distractors; see `Task.begin`."""
        config = self._world.config
        placement = Placement(config, seed, position_index)
        start, place = placement.start(), placement.place()
        self._world.reset()
        self._stand("object", place, placement.rng)
        if config.variation == "distractors":
            box = placement.distractor([place])
            self._stand("distractor_box", box, placement.rng)
            self._stand("distractor_can", placement.distractor([place, box]), placement.rng)
        return StartPose(
            position_m=(float(start[0]), float(start[1]), PICK_HEIGHT_M), gripper_opening=1.0
        )

    def truth(self) -> Mapping[str, Any]:
        """Returns `object_m` [3], the object's middle, `tool_m` [3], `lift_m` and `is_grasped`."""
        self._world.advance()
        middle = self._world.body_position("object")
        return {
            "object_m": middle,
            "tool_m": self._world.tool_pose()[0],
            "lift_m": float(middle[2]) - PRISM_HEIGHT_M / 2,
            "is_grasped": self._world.is_grasped("object"),
        }

    def _stand(self, name: str, place: np.ndarray, rng: np.random.Generator) -> None:
        yaw_rad = rng.uniform(0, np.pi)
        self._world.place_body(name, np.array([*place, PRISM_HEIGHT_M / 2]), yaw_rad)
