"""What a learner is told: the robot it learns for, the algorithm, and where things are.

This file alone decides what is learned; an actor that describes another robot is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import deploy
from learner.algorithms.fowm_config import FowmConfig
from learner.algorithms.registry import AlgorithmConfig, policy_config_to_json
from learner.ray_trainer import RayConfig
from learner.trainer_config import TrainerConfig, TrainerJob
from protos.trial import RobotSpec
from services import config
from services.address import DEFAULT_ADDRESS, split_address
from services.config import ConfigError
from services.credentials import ServerSecurity


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """How much the learner takes from actors."""

    lease_ttl_s: float = 5.0
    """Silence after which another process may take an actor's name over. [s]"""
    reserve_mib: int = 1024
    """Trials are refused that would leave less than this free on the store's disk. [MiB]"""
    max_trial_mib: int = 1024
    """Largest trial that is taken. [MiB]"""

    def __post_init__(self) -> None:
        if not self.lease_ttl_s > 0 or self.reserve_mib < 0 or self.max_trial_mib < 1:
            raise ValueError(
                "need lease_ttl_s > 0, reserve_mib >= 0 and max_trial_mib >= 1, got "
                f"{self.lease_ttl_s}, {self.reserve_mib} and {self.max_trial_mib}"
            )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """One learner: takes trials in, trains on them and hands weights out."""

    store: Path = Path("runs/store")
    """Folder of everything the learner keeps; made if it is not there."""
    listen: str = DEFAULT_ADDRESS
    """HOST:PORT for actors; port 0 takes any free one. Beyond this machine, set token_file and
    tls_cert, or use a tunnel."""
    token_file: Path | None = None
    """File with a token that actors and viewers must show; none takes calls from anyone."""
    tls_cert: Path | None = None
    """Certificate of the learner and what it is signed with, PEM; none serves without TLS."""
    tls_key: Path | None = None
    """The certificate's private key, PEM, without a password."""
    seed: int = 0
    """Decides initial weights and every random draw of the training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks live; auto takes a GPU if there is one."""
    learner_id: str = "learner"
    """Named in every version of the weights."""
    ray: RayConfig = field(default_factory=RayConfig)
    spec: RobotSpec
    """The robot: what it observes and how it is commanded. Actors must agree on all of it."""
    algorithm: AlgorithmConfig = field(default_factory=FowmConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        try:
            split_address(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from error
        _ = self.security  # refuses what does not belong together

    @property
    def security(self) -> ServerSecurity:
        """What callers must show, and TLS."""
        return ServerSecurity(
            token_file=self.token_file, tls_cert=self.tls_cert, tls_key=self.tls_key
        )

    def job(self) -> TrainerJob:
        """Returns what the trainer needs of all this."""
        return TrainerJob(
            store=str(self.store.absolute()),
            spec=self.spec,
            policy_config=policy_config_to_json(self.algorithm),
            trainer=self.trainer,
            device=self.device,
            seed=self.seed,
            learner_id=self.learner_id,
        )


def load(argv: Sequence[str], *, prog: str = "offworld learner") -> LearnerConfig:
    """Reads a command line; ConfigError where it names no file, or one that does not fit."""
    configs = Path(deploy.__file__).parent / "configs"
    if not any(a == "--config" or a.startswith("--config=") for a in argv):
        if not {"-h", "--help"} & set(argv):
            known = ", ".join(sorted(str(path) for path in configs.glob("*.toml")))
            raise ConfigError(f"{prog} needs --config FILE.toml, such as one of: {known}")
        argv = ["--config", str(configs / "demo-learner.toml"), *argv]  # help shows its values
    return config.load(LearnerConfig, argv, prog=prog)
