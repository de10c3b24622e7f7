"""Trials in memory: every frame once, as uint8, with one priority a step.

A trial of L steps takes L + 1 consecutive rows; row t holds what was seen before step t together
with that step's action and reward, the last row the final observation and no step. A step's index
is its row, so a window never needs a table: rows t and t + 1 of the same arrays are observation and
next observation. Rows without a live step have priority 0 and are never drawn.

All arrays live on one device and sampling never waits for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.batch import Batch
from protos.trial import RobotSpec, Source, SpecMismatch, Trial

INITIAL_ROWS = 1_024
OFFLINE, ONLINE = 0, 1
"""Codes of the two halves in `Batch.source`."""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How steps are prioritised, and how many are kept."""

    alpha: float = 0.6
    """Exponent of the priorities; 0 draws uniformly."""
    beta: float = 0.4
    """Exponent of the importance weights; 0 weighs all steps alike."""
    max_priority: float = 1e4
    """Larger priorities are cut to this."""
    epsilon: float = 1e-6
    """Added to every priority, so that no step is lost."""
    per_without_replacement: bool = False
    """Draw without replacement from a full buffer, as the published code does; the importance
    weights then no longer match the draws."""
    online_capacity_steps: int | None = None
    """The oldest online trials leave when more steps than this are stored; None keeps all."""

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and self.beta >= 0 and self.epsilon > 0):
            raise ValueError("alpha and beta must not be negative, epsilon must be positive")
        if self.max_priority <= 0:
            raise ValueError(f"max_priority is {self.max_priority}, must be positive")
        if self.online_capacity_steps is not None and self.online_capacity_steps < 1:
            raise ValueError(f"online_capacity_steps is {self.online_capacity_steps}, at least 1")


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

    def restore(self, trial: Trial, stored: StoredTrial) -> None:
        """Puts a trial back where `stored` says it was; its priorities follow separately."""
        if stored.num_steps != trial.num_steps:
            raise ValueError(f"trial {trial.trial_id} has changed its length")
        self._place(trial, stored.start_row)

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

    def load_priorities(self, priority: Tensor) -> None:
        """Sets the priority of every row, as `priority` once gave them. [R + 1]"""
        self.reserve(len(priority) - 1)
        self.priority[: len(priority)] = priority.to(self.device)
        self.scaled[:] = self._scale(self.priority)

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


class Replay:
    """The two buffers a learner samples from, offline and online.

    Args:
        spec: What every trial must follow.
        config: Priorities and capacity.
        device: Where frames and priorities live.
    """

    def __init__(
        self,
        spec: RobotSpec,
        config: ReplayConfig | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        config = config or ReplayConfig()
        self.device = torch.device(device)
        self.offline = ReplayBuffer(spec, config, device=device)
        self.online = ReplayBuffer(
            spec, config, device=device, capacity_steps=config.online_capacity_steps
        )

    def add(self, trial: Trial) -> StoredTrial:
        """Takes a trainable trial into the buffer of its source, see `ReplayBuffer.add`."""
        is_offline = trial.provenance.source is Source.OFFLINE
        return (self.offline if is_offline else self.online).add(trial)

    def update_priorities(self, batch: Batch, td_abs: Tensor) -> None:
        """Writes the absolute TD errors of a sampled batch back, each to the half it came from.

        Args:
            batch: As `Mixture.sample` gave it.
            td_abs: Absolute TD errors. [B]
        """
        rows, source = batch.indices.to(self.device), batch.source.to(self.device)
        td_abs = td_abs.to(self.device)
        for code, buffer in ((OFFLINE, self.offline), (ONLINE, self.online)):
            buffer.set_priorities(rows, td_abs, source == code)
