"""What the trainer expects of an algorithm and the control loop of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from learner.batch import Batch


class WeightsRejected(ValueError):
    """Weights do not fit the policy or are not finite; the ones before stay in use."""


class DivergedError(ArithmeticError):
    """A loss or gradient was not finite; go back to a checkpoint from before."""


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What one update reports; everything stays on the device."""

    metrics: dict[str, Tensor]
    """Scalars by name."""
    priorities: Tensor
    """Absolute temporal-difference error of each window, for the replay. [B]"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One action and how much the policy thinks of it."""

    action: np.ndarray
    """float32, normalised to [-1, 1]. [A]"""
    value: float
    """The plan's estimated return."""
    uncertainty: float
    """Standard deviation over the Q ensemble of the action."""


class Algorithm(Protocol):
    """Learns from batches; owns networks, optimisers and random streams."""

    @property
    def num_updates(self) -> int:
        """Updates made so far."""
        ...

    @property
    def needs_ranges(self) -> bool:
        """Whether `set_ranges` must be called before the first update."""
        ...

    def set_ranges(self, ranges: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Fixes lowest and highest recorded value of each vector field. {name: ([S], [S])}"""
        ...

    def update(self, batch: Batch) -> UpdateResult:
        """Takes one gradient step on a batch that lies on the algorithm's device."""
        ...

    def check_finite(self) -> None:
        """Raises DivergedError if any update so far was not finite; waits for the device."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns all state as nested dicts of tensors, ints, floats, bools and strings."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`'s value, bit for bit on a CPU."""
        ...

    def actor_tensors(self) -> dict[str, Tensor]:
        """Returns what a policy needs, by name, on the CPU."""
        ...


class Policy(Protocol):
    """Acts on observations, one robot, one trial at a time.

    `load`, `warm_up`, `act` and `rest_of_plan` are called by one thread. `reset` may be called by
    another, never while one of them runs.
    """

    def load(self, tensors: Mapping[str, np.ndarray | Tensor]) -> None:
        """Takes new weights whole, or raises WeightsRejected and keeps the old ones."""
        ...

    def warm_up(self) -> None:
        """Makes a plan and forgets it, so that the first real one is not late."""
        ...

    def reset(self) -> None:
        """Forgets the trial before; called at the start of every trial."""
        ...

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> Decision:
        """Decides on one action. {name: [*shape]}"""
        ...

    def rest_of_plan(self) -> np.ndarray:
        """Returns the actions that the last plan has for the steps after the one decided on.

        What a robot may do when the next plan comes too late. The array is the caller's, and asking
        changes nothing.

        Returns:
            The next action first, float32, each normalised to [-1, 1]. [N, A] N is 0 before the
            first decision of a trial, and always for a policy that does not plan ahead.
        """
        ...


def check_weights(
    expected: Mapping[str, Tensor], given: Mapping[str, np.ndarray | Tensor]
) -> dict[str, Tensor]:
    """Returns `given` as tensors if it has the names, shapes, dtypes of `expected` and is finite.

    Raises:
        WeightsRejected: It has not, or is not; the message lists the first differences.
    """
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or extra:
        raise WeightsRejected(f"weights: missing {missing[:5]}, unexpected {extra[:5]}")
    tensors = {}
    for name, reference in expected.items():
        value = given[name]
        tensor = torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        if tensor.shape != reference.shape or tensor.dtype != reference.dtype:
            raise WeightsRejected(
                f"weights {name}: expected {reference.dtype} {tuple(reference.shape)}, "
                f"got {tensor.dtype} {tuple(tensor.shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsRejected(f"weights {name}: not finite")
        tensors[name] = tensor
    return tensors
