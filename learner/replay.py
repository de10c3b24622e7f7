"""What a learner samples from: the offline trials and the online trials, apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from learner.batch import Batch
from learner.replay_buffer import ReplayBuffer, StoredTrial
from learner.trainer_config import ReplayConfig
from protos.trial import RobotSpec, Source, Trial

OFFLINE, ONLINE = 0, 1
"""Codes of the two halves in `Batch.source`."""


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

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of both halves, see `ReplayBuffer.state_dict`."""
        return {"offline": self.offline.state_dict(), "online": self.online.state_dict()}

    def load_state_dict(
        self, state: Mapping[str, Any], load: Callable[[str], Trial | None]
    ) -> None:
        """Continues from `state_dict`'s value, see `ReplayBuffer.load_state_dict`."""
        self.offline.load_state_dict(state["offline"], load)
        self.online.load_state_dict(state["online"], load)

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
