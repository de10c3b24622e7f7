"""What a training run is, apart from its frames: the contents of a checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from learner.algorithms.base import Algorithm
from learner.checkpoint import Checkpoint
from learner.progress import Progress
from learner.replay import Replay
from learner.trainer_config import TrainerConfig
from protos.trial import RobotSpec, Trial

logger = logging.getLogger(__name__)


class CheckpointMismatch(RuntimeError):
    """The checkpoints in this store belong to another algorithm or robot."""


@dataclass
class RunState:
    """Algorithm, replay, account and the random stream of the draws, saved and restored as one."""

    spec: RobotSpec
    policy_config: str
    """The algorithm's configuration as text."""
    algorithm: Algorithm
    replay: Replay
    seed: int
    config: TrainerConfig
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.generator = torch.Generator(self.replay.device).manual_seed(self.seed)

    def parts(self) -> dict[str, Any]:
        """Returns everything, by part of a checkpoint.

        Raises:
            DivergedError: The algorithm's state is not finite.
        """
        return {
            "algorithm": self.algorithm.state_dict(),
            "replay": self.replay.state_dict(),
            "trainer": {
                "config": dataclasses.asdict(self.config),
                "policy_config": self.policy_config,
                "spec": self.spec.to_json(),
                "progress": self.progress.state_dict(),
                "generator": self.generator.get_state(),
                "generator_device": self.replay.device.type,
            },
        }

    def restore(self, checkpoint: Checkpoint, load: Callable[[str], Trial | None]) -> None:
        """Continues from a checkpoint; from another kind of device with a new random stream.

        Args:
            checkpoint: Holds `parts`.
            load: Gives a trial by its id, or None if it cannot be read any more.

        Raises:
            CheckpointMismatch: It is of another algorithm or robot.
        """
        state = checkpoint.parts["trainer"]
        spec = RobotSpec.from_json(state["spec"])
        if spec != self.spec:
            raise CheckpointMismatch(
                f"{checkpoint.path} was trained for another robot or task: "
                + "; ".join(self.spec.difference(spec))
            )
        if state["policy_config"] != self.policy_config:
            raise CheckpointMismatch(
                f"{checkpoint.path} was trained with another algorithm configuration: "
                f"{state['policy_config']} there, {self.policy_config} here; "
                "use that one, or another store"
            )
        config = dataclasses.asdict(self.config)
        changed = sorted(k for k, v in config.items() if state["config"].get(k) != v)
        if changed:
            logger.info("config_changed since=%s fields=%s", checkpoint.path, ",".join(changed))
        self.algorithm.load_state_dict(checkpoint.parts["algorithm"])
        self.replay.load_state_dict(checkpoint.parts["replay"], load)
        self.progress = Progress.from_state(state["progress"])
        if state["generator_device"] == self.replay.device.type:
            self.generator.set_state(state["generator"])
        else:
            self.generator.manual_seed(self.seed + self.progress.num_updates)
        logger.info(
            "resumed checkpoint=%s num_updates=%s", checkpoint.path, self.progress.num_updates
        )
