"""Trials in memory: every frame once, as uint8, with one priority a step.

A trial of L steps takes L + 1 consecutive rows; row t holds what was seen before step t together
with that step's action and reward, the last row the final observation and no step. A step's index
is its row, so a window never needs a table: rows t and t + 1 of the same arrays are observation and
next observation. Rows without a live step have priority 0 and are never drawn.

All arrays live on one device and sampling never waits for it.

Differs: actions are clipped to [-1, 1], the published code's to +-(1 - 1e-5). The policy's
likelihood is a Gaussian of unit width here, which is finite at the bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.trainer_config import ReplayConfig
from protos.trial import RobotSpec, SpecMismatch, Trial

INITIAL_ROWS = 1_024


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """Where one trial lies in a buffer."""

    trial_id: str
    start_row: int
    num_steps: int

    @property
    def end_row(self) -> int:
        """First row after it and its final observation."""
        return self.start_row + self.num_steps + 1


class ReplayBuffer:
    """Trials of one source, with priorities; the offline or the online half of a replay.

    Args:
        spec: What every trial must follow.
        config: Priorities.
        device: Where frames and priorities live.
        capacity_steps: The oldest trials leave when more steps than this are stored; None: never.
    """

    def __init__(
        self,
        spec: RobotSpec,
        config: ReplayConfig,
        *,
        device: torch.device | str = "cpu",
        capacity_steps: int | None = None,
    ) -> None:
        self.spec = spec
        self.config = config
        self.device = torch.device(device)
        self.num_steps = 0
        """Steps that can be drawn."""
        self.has_evicted = False
        """Whether the buffer is full: old trials have begun to leave."""
        self.observations: dict[str, Tensor] = {}
        """By field name; images uint8, all else float32. [R, *field.shape]"""
        self.capacity_steps = capacity_steps
        self._trials: deque[StoredTrial] = deque()
        self._steps: dict[str, Tensor] = {}
        self._num_rows = self._end_row = 0
        self._last_row = torch.zeros(0, dtype=torch.int64, device=self.device)
        self.priority = torch.zeros(1, device=self.device)
        """0 where no live step is. [R + 1]"""
        self.scaled = torch.zeros(1, dtype=torch.float64, device=self.device)
        """Priorities to the power of alpha. [R + 1]"""
        self._allocate(0)

    @property
    def trials(self) -> tuple[StoredTrial, ...]:
        """Live trials, oldest first."""
        return tuple(self._trials)

    @property
    def end_row(self) -> int:
        """First row after all live trials; the same in a buffer that was saved and loaded."""
        return max((stored.end_row for stored in self._trials), default=0)

    def reserve(self, num_rows: int) -> None:
        """Makes room for `num_rows` in all at once, instead of by doubling."""
        if num_rows > self._num_rows:
            self._allocate(num_rows)

    def add(self, trial: Trial) -> StoredTrial:
        """Takes in one trainable trial; its steps get the largest priority there is.

        Raises:
            SpecMismatch: The trial follows another spec.
            ValueError: It is an evaluation, or was aborted.
        """
        priority = float(self.priority.max()) if self.num_steps else 1.0
        while (
            self.capacity_steps is not None
            and self._trials
            and self.num_steps + trial.num_steps > self.capacity_steps
        ):
            self._evict()
        stored = self._place(trial, self._free_row(trial.num_steps + 1))
        steps = slice(stored.start_row, stored.end_row - 1)
        self.priority[steps] = priority
        self.scaled[steps] = self._scale(self.priority[steps])
        return stored

    def ranges(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns lowest and highest value of every vector field. {name: ([S], [S])}"""
        rows = self._rows(is_with_final=True)
        return {
            name: (column[rows].amin(0).cpu().numpy(), column[rows].amax(0).cpu().numpy())
            for name, column in self.observations.items()
            if column.dtype != torch.uint8
        }

    def state_dict(self) -> dict[str, Any]:
        """Returns where each trial lies and the priorities; the frames stay in the store."""
        end_row = self.end_row
        return {
            "trials": [[t.trial_id, t.start_row, t.num_steps] for t in self._trials],
            "has_evicted": self.has_evicted,
            "priority": self.priority[:end_row].cpu(),
            "scaled": self.scaled[:end_row].cpu(),
        }

    def load_state_dict(
        self, state: Mapping[str, Any], load: Callable[[str], Trial | None]
    ) -> None:
        """Continues from `state_dict`'s value; draws are then the same, bit for bit on a CPU.

        Args:
            state: What `state_dict` returned.
            load: Gives a trial by its id, or None if it cannot be read any more.
        """
        assert not self._trials, "only a new buffer can be loaded"
        self.reserve(len(state["priority"]))
        for trial_id, start_row, num_steps in state["trials"]:
            trial = load(trial_id)
            if trial is None or trial.num_steps != num_steps:
                self.has_evicted = True
            else:
                self._place(trial, start_row)
        self.has_evicted |= bool(state["has_evicted"])
        rows = self._rows(is_with_final=False)
        # Both, because a power computed in another place of an array may differ in its last bit.
        self.priority[rows] = state["priority"].to(self.device)[rows]
        self.scaled[rows] = state["scaled"].to(self.device)[rows]

    def rows_of_window(self, first_rows: Tensor, horizon: int) -> Tensor:
        """Returns the rows of the steps of windows; past a trial's end its last step repeats.

        Args:
            first_rows: Row of each window's first step. [B]
            horizon: Steps in a window, H.

        Returns:
            Rows, always of the trial that the window began in. [H, B]
        """
        offsets = torch.arange(horizon, device=self.device)[:, None]
        return torch.minimum(first_rows + offsets, self._last_row[first_rows])

    def step_column(self, name: str, rows: Tensor) -> Tensor:
        """Gathers `action`, `reward`, `mask` or `done`. [*rows.shape, A or 1]"""
        return self._steps[name][rows]

    def set_priorities(self, rows: Tensor, td_abs: Tensor, is_mine: Tensor) -> None:
        """Sets the priority of steps to their absolute TD error.

        A step that was drawn several times gets its largest error, on every device alike.

        Args:
            rows: Rows of the steps. [B]
            td_abs: Their absolute errors. [B]
            is_mine: Which of them belong to this buffer. [B]
        """
        config, spare = self.config, self._num_rows
        rows = torch.where(is_mine, rows, spare)
        rows = torch.where(self.scaled[rows] > 0, rows, spare)
        value = td_abs.detach().to(torch.float32).nan_to_num(nan=config.max_priority)
        value = value.clamp(0.0, config.max_priority) + config.epsilon
        self.priority.scatter_reduce_(0, rows, value, reduce="amax", include_self=False)
        self.scaled[rows] = self._scale(self.priority[rows])
        self._clear(slice(spare, None))

    def _rows(self, *, is_with_final: bool) -> Tensor:
        """Returns the rows of live steps, with or without the final observations. [n]"""
        ranges = [torch.arange(t.start_row, t.end_row - (not is_with_final)) for t in self._trials]
        return torch.cat([torch.arange(0), *ranges]).to(self.device)

    def _place(self, trial: Trial, start: int) -> StoredTrial:
        if not trial.is_trainable:
            raise ValueError(f"trial {trial.trial_id} is not one to train on")
        if trial.spec != self.spec:
            differences = "; ".join(self.spec.difference(trial.spec))
            raise SpecMismatch(f"trial {trial.trial_id} follows another spec: {differences}")
        stored = StoredTrial(trial_id=trial.trial_id, start_row=start, num_steps=trial.num_steps)
        if stored.end_row > self._num_rows:
            self.reserve(max(stored.end_row, 2 * self._num_rows, INITIAL_ROWS))
        rows, steps = slice(start, stored.end_row), slice(start, stored.end_row - 1)
        for name, column in self.observations.items():
            column[rows] = torch.tensor(trial.observations[name]).to(column)
        ended = trial.steps["terminated"] | trial.steps["truncated"]
        for name, values in (
            ("action", trial.steps["action_executed"].clip(-1.0, 1.0)),
            ("reward", trial.steps["reward"][:, None]),
            ("mask", ~trial.steps["terminated"][:, None]),
            ("done", ended[:, None]),
        ):
            self._steps[name][steps] = torch.tensor(values).to(self._steps[name])
        self._last_row[steps] = stored.end_row - 2
        self._trials.append(stored)
        self.num_steps += stored.num_steps
        self._end_row = max(self._end_row, stored.end_row)
        return stored

    def _free_row(self, num_rows: int) -> int:
        if not self.has_evicted:
            return self._end_row
        row = 0
        for stored in sorted(self._trials, key=lambda stored: stored.start_row):
            if stored.start_row - row >= num_rows:
                break
            row = stored.end_row
        return row

    def _evict(self) -> None:
        stored = self._trials.popleft()
        self.num_steps -= stored.num_steps
        self.has_evicted = True
        self._clear(slice(stored.start_row, stored.end_row))

    def _clear(self, rows: slice) -> None:
        self.priority[rows] = 0.0
        self.scaled[rows] = 0.0

    def _scale(self, priority: Tensor) -> Tensor:
        powered = priority.to(torch.float64) ** self.config.alpha
        return torch.where(priority > 0, powered, 0.0)

    def _allocate(self, num_rows: int) -> None:
        def grown(old: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            new = torch.zeros(shape, dtype=dtype, device=self.device)
            if old is not None and len(old):
                new[: len(old)] = old
            return new

        for field in self.spec.observations:
            is_image = field.dtype == "uint8" and field in self.spec.image_fields
            self.observations[field.name] = grown(
                self.observations.get(field.name),
                (num_rows, *field.shape),
                torch.uint8 if is_image else torch.float32,
            )
        for name, width in (
            ("action", self.spec.action_size),
            ("reward", 1),
            ("mask", 1),
            ("done", 1),
        ):
            self._steps[name] = grown(self._steps.get(name), (num_rows, width), torch.float32)
        self._last_row = grown(self._last_row, (num_rows,), torch.int64)
        # One spare row at the end, never live: where writes go that must have no effect.
        self.priority = grown(self.priority, (num_rows + 1,), torch.float32)
        self.scaled = grown(self.scaled, (num_rows + 1,), torch.float64)
        self._num_rows = num_rows
