"""Who decides on actions during a trial: a planner with learned weights, or chance.

The loop sees both through `Pilot`. `learner.algorithms.base.Policy` fits it as it is; this module
imports no torch, so that an actor without a model starts in a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Choice(Protocol):
    """One action and how much its maker thinks of it."""

    @property
    def action(self) -> np.ndarray:
        """float32, normalised to [-1, 1]. [A]"""
        ...

    @property
    def value(self) -> float:
        """Estimated return; NaN when nothing was planned."""
        ...

    @property
    def uncertainty(self) -> float:
        """Standard deviation over the Q ensemble; NaN when nothing was planned."""
        ...


class Pilot(Protocol):
    """Decides on actions, one trial at a time."""

    def reset(self) -> None:
        """Forgets the trial before."""
        ...

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> Choice:
        """Decides on one action. {name: [*shape]}"""
        ...


@runtime_checkable
class PlansAhead(Protocol):
    """A pilot that keeps the plan behind its last action."""

    @property
    def previous_mean(self) -> Any:
        """Actions of the last plan, the one just returned first; array or tensor. [H, A]"""
        ...


@dataclass(frozen=True, kw_only=True)
class RandomChoice:
    """An action nobody planned."""

    action: np.ndarray
    value: float = math.nan
    uncertainty: float = math.nan


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


def rest_of_plan(pilot: Pilot) -> np.ndarray:
    """Returns what the last plan has left after its first action, float32; may be empty. [N, A]"""
    if not isinstance(pilot, PlansAhead):
        return np.zeros((0, 0), np.float32)
    mean = pilot.previous_mean
    on_host = mean.detach().cpu().numpy() if hasattr(mean, "detach") else mean
    return np.array(on_host, dtype=np.float32)[1:]
