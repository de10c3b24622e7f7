"""Scripted experts that know where things are and, on purpose, err about half the time.

They stand in for the imperfect policies that record offline data on a real robot: an error of aim
for the whole trial, uneven speed, noise in every action, and for pick a gripper that sometimes
lets go. Every draw comes from the generator given to `begin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robot.observation import Observation
from robot.sim.config import SimConfig


class ReachExpert:
    """Steers the held object to the target, off by an error of aim.

    Args:
        config: Whose task it solves.
        aim_error_m: Standard deviation of the error of aim along x and y, drawn once a trial.
        action_noise: Standard deviation of the noise of every action.
    """

    def __init__(
        self, config: SimConfig, *, aim_error_m: float = 0.03, action_noise: float = 0.5
    ) -> None:
        self._scale_m = config.action_scale_m
        self._aim_error_m = aim_error_m
        self._action_noise = action_noise
        self._rng = np.random.default_rng(0)
        self._aim_m = np.zeros(2)
        self._gain = 1.0

    def begin(self, rng: np.random.Generator) -> None:
        """Draws the error of aim and the speed of the trial."""
        self._rng = rng
        self._aim_m = rng.normal(0.0, self._aim_error_m, size=2)
        self._gain = rng.uniform(0.3, 0.8)

    def act(self, observation: Observation) -> np.ndarray:
        """Returns a step towards where it believes the target is. [2]"""
        truth = _known(observation)
        error_m = truth["target_m"][:2] + self._aim_m - truth["held_m"][:2]
        action = np.clip(self._gain * error_m / self._scale_m, -1.0, 1.0)
        return _noisy(action, self._action_noise, self._rng)


class PickExpert:
    """Moves above the object, descends, closes the gripper and lifts.

    Args:
        config: Whose task it solves.
        aim_error_m: Standard deviation of the error of aim along x and y, drawn once a trial.
        action_noise: Standard deviation of the noise of every action.
        drop_rate: Chance that the gripper lets go on a step of the lift.
    """

    _GRASP_HEIGHT_M = 0.035
    _HOVER_HEIGHT_M = 0.11
    _TOP_HEIGHT_M = 0.20

    def __init__(
        self,
        config: SimConfig,
        *,
        aim_error_m: float = 0.022,
        action_noise: float = 0.15,
        drop_rate: float = 0.11,
    ) -> None:
        self._scale_m = config.action_scale_m
        self._aim_error_m = aim_error_m
        self._action_noise = action_noise
        self._drop_rate = drop_rate
        self._rng = np.random.default_rng(0)
        self._aim_m = np.zeros(2)
        self._gain = 1.0
        self._phase = "approach"
        self._num_closing = 0

    def begin(self, rng: np.random.Generator) -> None:
        """Draws the error of aim and the speed of the trial."""
        self._rng = rng
        self._aim_m = rng.normal(0.0, self._aim_error_m, size=2)
        self._gain = rng.uniform(0.6, 1.0)
        self._phase = "approach"
        self._num_closing = 0

    def act(self, observation: Observation) -> np.ndarray:
        """Returns the next move of the phase it is in. [4]"""
        truth = _known(observation)
        tool_m = truth["tool_m"]
        error_m = np.zeros(3)
        error_m[:2] = truth["object_m"][:2] + self._aim_m - tool_m[:2]
        is_above = float(np.linalg.norm(error_m[:2])) < 0.02
        if self._phase == "approach" and is_above:
            self._phase = "descend"
        if self._phase == "descend" and tool_m[2] < self._GRASP_HEIGHT_M + 0.008:
            self._phase = "close"
        if self._phase == "close":
            self._num_closing += 1
            if self._num_closing > 4:
                self._phase = "lift"

        grip = 1.0
        if self._phase == "approach":
            error_m[2] = self._HOVER_HEIGHT_M - tool_m[2]
        elif self._phase == "descend":
            error_m[2] = self._GRASP_HEIGHT_M - tool_m[2]
        elif self._phase == "close":
            error_m[:], grip = 0.0, -1.0
        else:
            error_m[:2] = 0.0
            error_m[2] = self._TOP_HEIGHT_M - tool_m[2]
            grip = 1.0 if self._rng.uniform() < self._drop_rate else -0.3
        move = np.clip(self._gain * error_m / self._scale_m, -1.0, 1.0)
        noise = self._action_noise if self._phase != "close" else 0.3 * self._action_noise
        return _noisy(np.array([*move, grip]), noise, self._rng)


class Explorer:
    """Wanders smoothly, and every now and then runs straight against a border.

    Args:
        num_axes: Size of its actions.
    """

    def __init__(self, num_axes: int) -> None:
        self._drift = np.zeros(num_axes)
        self._run = np.zeros(num_axes)
        self._num_left = 0
        self._rng = np.random.default_rng(0)

    def begin(self, rng: np.random.Generator) -> None:
        """Starts from rest."""
        self._rng = rng
        self._drift = np.zeros_like(self._drift)
        self._num_left = 0

    def act(self, observation: Observation) -> np.ndarray:
        """Returns the next move, whatever is observed. [A]"""
        rng = self._rng
        if self._num_left == 0 and rng.uniform() < 0.12:
            self._num_left = int(rng.integers(6, 14))
            direction = rng.normal(size=self._run.shape)
            self._run = direction / max(float(np.abs(direction).max()), 1e-6)
        self._drift = 0.85 * self._drift + rng.normal(0.0, 0.35, size=self._drift.shape)
        if self._num_left > 0:
            self._num_left -= 1
            return _noisy(self._run, 0.1, rng)
        return np.clip(self._drift, -1.0, 1.0).astype(np.float32)


def _known(observation: Observation) -> Mapping[str, Any]:
    if observation.truth is None:
        raise ValueError("a scripted expert needs the simulator's truth")
    return observation.truth


def _noisy(action: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    noisy = action + rng.normal(0.0, noise, size=action.shape)
    return np.clip(noisy, -1.0, 1.0).astype(np.float32)
