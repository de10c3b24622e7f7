"""Sparse rewards, one small class a task; pure in the truth of the observation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from robot.interfaces import SUCCESS
from robot.observation import Observation


def _needed(truth: Mapping[str, Any] | None, task: str) -> Mapping[str, Any]:
    if truth is None:
        raise ValueError(f"the {task} reward needs the simulator's truth, got None")
    return truth


class ReachReward:
    """1 while the held object is above the target, else 0.

    Args:
        tolerance_m: Greatest distance in the table's plane between the bottom of the held object
            and the centre of the target.
    """

    def __init__(self, tolerance_m: float) -> None:
        self._tolerance_m = tolerance_m

    def begin(self, observation: Observation) -> None:
        """Remembers nothing from one observation to the next."""

    def __call__(self, observation: Observation) -> float:
        """Returns the reward from `held_m` and `target_m` of the truth."""
        known = _needed(observation.truth, "reach")
        held, target = known["held_m"], known["target_m"]
        distance_m = math.hypot(held[0] - target[0], held[1] - target[1])
        return SUCCESS if distance_m <= self._tolerance_m else 0.0

    def is_success(self, reward: float) -> bool:
        """Whether the object was above the target."""
        return reward >= SUCCESS


class PickReward:
    """1 while the object is held above a height, 0.5 while it is grasped below, else 0.

    Args:
        lift_height_m: How far above where it stood counts as lifted.
    """

    def __init__(self, lift_height_m: float) -> None:
        self._lift_height_m = lift_height_m

    def begin(self, observation: Observation) -> None:
        """Remembers nothing from one observation to the next."""

    def __call__(self, observation: Observation) -> float:
        """Returns the reward from `is_grasped` and `lift_m` of the truth."""
        known = _needed(observation.truth, "pick")
        if not known["is_grasped"]:
            return 0.0
        return SUCCESS if known["lift_m"] >= self._lift_height_m else 0.5

    def is_success(self, reward: float) -> bool:
        """Whether the object was lifted."""
        return reward >= SUCCESS
