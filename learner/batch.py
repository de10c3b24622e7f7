"""A training batch: windows of H steps cut from trials, time first.

Row t of a time-first array belongs to step t of the window; `observations` is what was seen before
step 0, `next_observations[t]` what was seen after step t. Rows after a `done` may hold anything
finite: the validity mask of `losses.py` removes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B windows of H steps; images are raw uint8 [Y, X, C], not augmented.

    Raises:
        ValueError: Two arrays disagree on H or B, or on the observed fields.
    """

    observations: Mapping[str, Tensor]
    """By field name. [B, *field.shape]"""
    next_observations: Mapping[str, Tensor]
    """By field name. [H, B, *field.shape]"""
    action: Tensor
    """Executed actions, normalised to [-1, 1]. [H, B, A]"""
    reward: Tensor
    """Rewards as the learner shall see them. [H, B, 1]"""
    mask: Tensor
    """0 where the task truly ended (no bootstrap), else 1. [H, B, 1]"""
    done: Tensor
    """1 on the last stored step of a trial, whatever ended it. [H, B, 1]"""
    weights: Tensor
    """Importance weights. [B]"""
    indices: Tensor
    """Where the window starts in the replay, for writing priorities back; int64. [B]"""
    source: Tensor
    """0 offline, 1 online; int64. [B]"""

    def __post_init__(self) -> None:
        time_batch = self.action.shape[:2]
        for name in ("reward", "mask", "done"):
            shape = getattr(self, name).shape
            if shape != (*time_batch, 1):
                raise ValueError(f"{name} has shape {tuple(shape)}, expected {(*time_batch, 1)}")
        for name in ("weights", "indices", "source"):
            shape = getattr(self, name).shape
            if shape != time_batch[1:]:
                raise ValueError(f"{name} has shape {tuple(shape)}, expected {time_batch[1:]}")
        if self.observations.keys() != self.next_observations.keys():
            raise ValueError(
                f"observed {sorted(self.observations)}, next {sorted(self.next_observations)}"
            )
        for name, first in self.observations.items():
            after = self.next_observations[name]
            if first.shape[:1] != time_batch[1:] or after.shape != (*time_batch, *first.shape[1:]):
                raise ValueError(
                    f"{name}: first {tuple(first.shape)} and next {tuple(after.shape)} do not fit "
                    f"H, B = {tuple(time_batch)}"
                )

    @property
    def horizon(self) -> int:
        """Steps in a window, H."""
        return self.action.shape[0]

    @property
    def size(self) -> int:
        """Windows in the batch, B."""
        return self.action.shape[1]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Returns the same batch on `device`."""

        def move(value: Tensor) -> Tensor:
            return value.to(device, non_blocking=non_blocking)

        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in fields.items():
            is_dict = isinstance(value, Mapping)
            fields[name] = {k: move(v) for k, v in value.items()} if is_dict else move(value)
        return Batch(**fields)
