"""Windows of H steps from the replay, as batches: prioritised within each half, then joined.

Steps are drawn with probability proportional to priority^alpha, with replacement, which is what the
importance weights (n P)^-beta assume; they are divided by the largest of the drawn half. Any stored
step can begin a window. A window that reaches its trial's end repeats the last step, so that `done`
stays 1 and every number is finite; the losses mask those rows.

Differs: the published code draws without replacement once a buffer is full
(`ReplayConfig.per_without_replacement`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from learner.batch import Batch
from learner.replay import OFFLINE, ONLINE, Replay
from learner.replay_buffer import ReplayBuffer


class NothingToSample(RuntimeError):
    """The replay holds no step."""


def draw_rows(buffer: ReplayBuffer, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws steps by priority.

    Args:
        buffer: Must hold at least one step.
        num: How many to draw, n.
        generator: On the buffer's device.

    Returns:
        Their rows [n] and importance weights, 1 for the largest [n].
    """
    # In float64: a float32 sum over 10^5 priorities would starve the small ones.
    cumulative = buffer.scaled[:-1].cumsum(0)
    total = cumulative[-1]
    is_closed = buffer.capacity_steps is None or buffer.has_evicted
    if buffer.config.per_without_replacement and is_closed and buffer.num_steps >= num:
        # Free rows at the end are left out: how many there are is not the same after a restart, and
        # each takes a random number.
        rows = torch.multinomial(buffer.scaled[: buffer.end_row], num, generator=generator)
    else:
        at = torch.rand(num, generator=generator, device=buffer.device, dtype=torch.float64) * total
        # Rounding must not reach `total` itself: no row's share lies beyond it.
        at = torch.minimum(at, torch.nextafter(total, torch.zeros_like(total)))
        rows = torch.searchsorted(cumulative, at, right=True)
    weights = (buffer.scaled[rows] * (buffer.num_steps / total)) ** -buffer.config.beta
    return rows, (weights / weights.max()).to(torch.float32)


class SequenceSampler:
    """Draws windows of one buffer.

    Args:
        buffer: Where to draw from.
        horizon: Steps in a window, H.
    """

    def __init__(self, buffer: ReplayBuffer, horizon: int) -> None:
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}, must be at least 1")
        self.buffer = buffer
        self.horizon = horizon

    def sample(self, num: int, *, source: int, generator: torch.Generator) -> Batch:
        """Draws `num` windows and marks them with `source`.

        Raises:
            NothingToSample: The buffer is empty.
        """
        if not self.buffer.num_steps:
            raise NothingToSample("the replay holds no step; commit trials to the store first")
        rows, weights = draw_rows(self.buffer, num, generator)
        return self.windows(rows, weights, source=source)

    def windows(self, rows: Tensor, weights: Tensor, *, source: int) -> Batch:
        """Cuts the windows that begin at `rows`. [B], [B]"""
        steps = self.buffer.rows_of_window(rows, self.horizon)
        after = (steps + 1).flatten()
        observations = self.buffer.observations
        return Batch(
            observations={k: v.index_select(0, rows) for k, v in observations.items()},
            next_observations={
                k: v.index_select(0, after).view(*steps.shape, *v.shape[1:])
                for k, v in observations.items()
            },
            action=self.buffer.step_column("action", steps),
            reward=self.buffer.step_column("reward", steps),
            mask=self.buffer.step_column("mask", steps),
            done=self.buffer.step_column("done", steps),
            weights=weights,
            indices=rows,
            source=torch.full_like(rows, source),
        )


class Mixture:
    """Draws batches of which a fixed part is online data; the rest is offline.

    Args:
        replay: Where to draw from.
        horizon: Steps in a window, H.
    """

    def __init__(self, replay: Replay, horizon: int) -> None:
        self.replay = replay
        self._offline = SequenceSampler(replay.offline, horizon)
        self._online = SequenceSampler(replay.online, horizon)

    def sample(
        self, batch_size: int, online_fraction: float = 0.5, *, generator: torch.Generator
    ) -> Batch:
        """Draws one batch; while one half is empty, all of it comes from the other.

        Args:
            batch_size: Windows in the batch, B.
            online_fraction: Part of them from online trials, 0 to 1.
            generator: On the replay's device.

        Raises:
            NothingToSample: Both halves are empty, or the only one wanted is.
        """
        num_online = round(batch_size * online_fraction)
        if not self.replay.online.num_steps:
            num_online = 0
        elif not self.replay.offline.num_steps and num_online:
            num_online = batch_size
        num_offline = batch_size - num_online
        if not num_online:
            return self._offline.sample(num_offline, source=OFFLINE, generator=generator)
        online = self._online.sample(num_online, source=ONLINE, generator=generator)
        if not num_offline:
            return online
        offline = self._offline.sample(num_offline, source=OFFLINE, generator=generator)
        return join(offline, online)


def join(first: Batch, second: Batch) -> Batch:
    """Puts two batches of one horizon side by side."""

    def cat(name: str, dim: int) -> Tensor:
        return torch.cat((getattr(first, name), getattr(second, name)), dim)

    return Batch(
        observations={
            k: torch.cat((v, second.observations[k])) for k, v in first.observations.items()
        },
        next_observations={
            k: torch.cat((v, second.next_observations[k]), 1)
            for k, v in first.next_observations.items()
        },
        action=cat("action", 1),
        reward=cat("reward", 1),
        mask=cat("mask", 1),
        done=cat("done", 1),
        weights=cat("weights", 0),
        indices=cat("indices", 0),
        source=cat("source", 0),
    )
