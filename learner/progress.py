"""The trainer's account: which trials it has seen, which updates it has made, which it owes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learner.ledger import TrialRow
from learner.trainer_config import TrainerConfig
from protos.trial import Source


@dataclass
class Progress:
    """Counts of one training run; part of every checkpoint.

    Updates are owed in order: offline ones (pretraining, then the control's extra ones), then those
    for online trials.
    """

    ledger_seq: int = 0
    """Newest ledger row that was looked at."""
    settled_seq: int = 0
    """Newest ledger row at a moment when no update was owed."""
    num_offline_trials: int = 0
    num_online_trials: int = 0
    num_online_steps: int = 0
    offline_updates: int = 0
    online_updates: int = 0
    published_updates: int = -1
    """Updates done when weights were last published; -1 before the first time."""

    @property
    def num_updates(self) -> int:
        """Updates made so far."""
        return self.offline_updates + self.online_updates

    def note(self, row: TrialRow, *, is_taken: bool) -> None:
        """Counts one ledger row, and its trial if it went into the replay."""
        assert row.ledger_seq is not None
        self.ledger_seq = row.ledger_seq
        if is_taken and row.source is Source.OFFLINE:
            self.num_offline_trials += 1
        elif is_taken:
            self.num_online_trials += 1
            self.num_online_steps += row.num_steps

    def offline_owed(self, config: TrainerConfig) -> int:
        """Returns how many updates on offline trials alone are still to be made."""
        wanted = config.num_pretrain_updates + config.extra_offline_updates
        return max(0, wanted - self.offline_updates)

    def online_owed(self, config: TrainerConfig) -> int:
        """Returns how many updates are owed for online trials."""
        if config.updates_per_trial is not None:
            wanted = self.num_online_trials * config.updates_per_trial
        else:
            assert config.updates_per_step is not None
            wanted = math.floor(self.num_online_steps * config.updates_per_step)
        return max(0, wanted - self.online_updates)

    def owed(self, config: TrainerConfig) -> int:
        """Returns how many updates are still to be made in all."""
        return self.offline_owed(config) + self.online_owed(config)

    def count_update(self, config: TrainerConfig) -> None:
        """Counts one update, as an offline one while any of those is owed."""
        if self.offline_owed(config):
            self.offline_updates += 1
        else:
            self.online_updates += 1

    def settle(self, config: TrainerConfig) -> None:
        """Notes that all is done for what the ledger holds so far, if it is."""
        if not self.owed(config):
            self.settled_seq = self.ledger_seq

    def must_publish(self, config: TrainerConfig) -> bool:
        """Returns whether the weights of this moment are to be published.

        Without pretraining that is so before the first update: an actor needs weights to begin.
        """
        done = self.num_updates
        if done == self.published_updates:
            return False
        if not self.owed(config):
            return True
        if self.offline_updates == config.num_pretrain_updates and not self.online_updates:
            return True
        every = config.publish_every_updates
        return every is not None and done - max(0, self.published_updates) >= every

    def state_dict(self) -> dict[str, int]:
        """Returns all counts by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Continues from `state_dict`'s value."""
        return cls(**state)
