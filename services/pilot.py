"""Who decides on actions during a trial: a planner with learned weights, or chance.

The loop sees both through `Pilot`. Every `learner.algorithms.base.Policy` is one; this module
imports no torch, so that an actor without a model starts in a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robot.interfaces import RobotFault


class Choice(Protocol):
    """One action and how much its maker thinks of it."""

    @property
    def action(self) -> np.ndarray:
        """float32, normalised to [-1, 1]. [A]"""
        ...

    @property
    def value(self) -> float | None:
        """Estimated return; None when nothing was planned."""
        ...

    @property
    def uncertainty(self) -> float | None:
        """Standard deviation over the Q ensemble; None when nothing was planned."""
        ...


class Pilot(Protocol):
    """Decides on actions, one trial at a time."""

    def reset(self) -> None:
        """Forgets the trial before."""
        ...

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> Choice:
        """Decides on one action. {name: [*shape]}"""
        ...

    def rest_of_plan(self) -> np.ndarray:
        """Returns what the last plan has left after its first action, float32. [N, A]

        Empty when nothing is planned ahead, and before the first decision of a trial.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RandomChoice:
    """An action nobody planned."""

    action: np.ndarray
    value: float | None = None
    uncertainty: float | None = None


class RandomPilot:
    """Draws every action uniformly from [-1, 1]: moves without a model."""

    def __init__(self, action_size: int, seed: int) -> None:
        self._action_size = action_size
        self._random = np.random.default_rng(seed)

    def reset(self) -> None:
        """Has nothing to forget."""

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        """Draws one action. {name: [*shape]}"""
        del observation, is_eval
        drawn = self._random.uniform(-1.0, 1.0, self._action_size)
        return RandomChoice(action=drawn.astype(np.float32))

    def rest_of_plan(self) -> np.ndarray:
        """Returns nothing: each action is drawn when it is due. [0, A]"""
        return np.zeros((0, self._action_size), np.float32)


class StillPilot:
    """Keeps still: where only a person steers."""

    def __init__(self, action_size: int) -> None:
        self._action_size = action_size

    def reset(self) -> None:
        """Has nothing to forget."""

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        """Returns the action that holds. {name: [*shape]}"""
        del observation, is_eval
        return RandomChoice(action=np.zeros(self._action_size, np.float32))

    def rest_of_plan(self) -> np.ndarray:
        """Returns nothing: nothing is planned. [0, A]"""
        return np.zeros((0, self._action_size), np.float32)


def fault_of(choice: Choice) -> RobotFault | None:
    """Returns the fault that a number of `choice` which is not finite is; None for a sane one."""
    if not np.isfinite(choice.action).all():
        return RobotFault("action_not_finite", f"planned {choice.action.tolist()}")
    for name, number in (("value", choice.value), ("uncertainty", choice.uncertainty)):
        if number is not None and not math.isfinite(number):
            return RobotFault("plan_not_finite", f"its {name} is {number}")
    return None
