"""What a training run is told: settings of replay and trainer, and the job that names its parts.

No torch here: the process that starts a trainer needs these, and nothing else of it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from protos.trial import RobotSpec


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
class TrainerConfig:
    """How many updates are made, on what, and how often they are kept and shown."""

    num_pretrain_updates: int = 25_000
    """Updates on offline trials before the first weights are published."""
    extra_offline_updates: int = 0
    """Further updates on offline trials only, for a control without online data."""
    updates_per_trial: int | None = None
    """Updates owed for each online trial; None where `updates_per_step` says how many."""
    updates_per_step: float | None = 1.0
    """Updates owed for each step of an online trial; None where `updates_per_trial` says it."""
    min_offline_trials: int = 1
    """Offline updates wait until so many trials are committed."""
    batch_size: int = 256
    """Windows in a batch, B."""
    online_batch_fraction: float = 0.5
    """Part of a batch that is online data, once there is any."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    replay_device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where frames live; auto puts them beside the networks if they take less than half of what
    is free there."""
    publish_every_updates: int | None = None
    """Publish also while updates are owed, this often; None: only when none is."""
    keep_weights: int = 8
    """Newest weights versions that are kept."""
    checkpoint_every_updates: int = 500
    checkpoint_every_s: float = 60.0
    keep_checkpoints: int = 3
    log_every_updates: int = 100
    """Updates that one line of metrics is the mean of."""
    is_tensorboard_on: bool = True
    poll_s: float = 0.1
    """Longest time until a new trial, or the wish to stop, is noticed between updates."""
    num_threads: int | None = None
    """CPU threads of torch; None leaves its own choice."""

    def __post_init__(self) -> None:
        if (self.updates_per_trial is None) == (self.updates_per_step is None):
            raise ValueError("set exactly one of updates_per_trial and updates_per_step")
        for name in (
            "num_pretrain_updates",
            "extra_offline_updates",
            "updates_per_trial",
            "updates_per_step",
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}, must not be negative")
        for name in (
            "min_offline_trials",
            "batch_size",
            "publish_every_updates",
            "keep_weights",
            "checkpoint_every_updates",
            "keep_checkpoints",
            "log_every_updates",
            "num_threads",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        for name in ("checkpoint_every_s", "poll_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")
        if not 0 <= self.online_batch_fraction <= 1:
            raise ValueError(f"online_batch_fraction is {self.online_batch_fraction}, not in 0..1")
        if self.replay_device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"replay_device is {self.replay_device!r}, not auto, cpu or cuda")


@dataclass(frozen=True, kw_only=True)
class TrainerJob:
    """All a process needs to build one trainer."""

    store: str
    """The store's folder."""
    spec: RobotSpec
    policy_config: str
    """The algorithm, as `learner.algorithms.registry.policy_config_to_json` gives it."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks live; auto takes a GPU if there is one."""
    seed: int = 0
    learner_id: str = "learner"

    def to_json(self) -> str:
        """Returns the text form."""
        raw = dataclasses.asdict(self) | {"spec": json.loads(self.spec.to_json())}
        return json.dumps(raw, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TrainerJob:
        """Reads `to_json`'s form; ValueError names what is unknown, missing or out of range."""
        raw = json.loads(text)
        trainer = dict(raw["trainer"])
        replay = _known(ReplayConfig, trainer.pop("replay"))
        return _known(
            cls,
            raw
            | {
                "spec": RobotSpec.from_json(json.dumps(raw["spec"])),
                "trainer": _known(TrainerConfig, trainer | {"replay": replay}),
            },
        )


def _known(kind: type[Any], values: dict[str, Any]) -> Any:
    names = {f.name for f in dataclasses.fields(kind)}
    if values.keys() != names:
        raise ValueError(
            f"{kind.__name__}: unknown {sorted(values.keys() - names)}, "
            f"missing {sorted(names - values.keys())}"
        )
    return kind(**values)
