"""Offline data from the simulator: noisy expert trials, and exploratory ones beside them."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from protos.trial import Provenance, Source, Trial, new_trial_id
from robot.clock import SimulatedClock
from robot.collect import Expert, collect_trial
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_env
from robot.sim.experts import Explorer, PickExpert, ReachExpert

EXPERT_NOTE = "scripted expert, noisy"
EXPLORER_NOTE = "exploration"
_NUM_EXPERT = {"reach": 100, "pick": 200}
_NUM_EXPLORATORY = {"reach": 20, "pick": 0}


@dataclass(frozen=True, kw_only=True)
class OfflineDataConfig:
    """How much offline data of which workspace."""

    sim: SimConfig = field(default_factory=SimConfig)
    num_expert_trials: int | None = None
    """Trials of the noisy expert, about half of them successful; None is the task's usual
    number: 100 for reach, 200 for pick."""
    num_exploratory_trials: int | None = None
    """Trials of random motion, with attempts to leave the box; None is 20 for reach, 0 for
    pick."""

    def __post_init__(self) -> None:
        for name in ("num_expert_trials", "num_exploratory_trials"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")

    @property
    def counts(self) -> tuple[int, int]:
        """Number of expert and of exploratory trials."""
        expert, exploratory = self.num_expert_trials, self.num_exploratory_trials
        return (
            _NUM_EXPERT[self.sim.task] if expert is None else expert,
            _NUM_EXPLORATORY[self.sim.task] if exploratory is None else exploratory,
        )


def make_expert(config: SimConfig) -> Expert:
    """Returns the noisy expert of a task."""
    return ReachExpert(config) if config.task == "reach" else PickExpert(config)


def make_offline_trials(
    config: OfflineDataConfig,
    seed: int,
    *,
    actor: str = "scripted",
    make_trial_id: Callable[[], str] = new_trial_id,
    unix_ns: Callable[[], int] = time.time_ns,
) -> Iterator[Trial]:
    """Yields the expert trials, then the exploratory ones, each as it is recorded.

    The same seed gives the same trials bit for bit, but for what `make_trial_id` and `unix_ns`
    return. Trial k depends on the seed and k alone.
    """
    num_expert, num_exploratory = config.counts
    env = make_sim_env(config.sim, SimulatedClock())
    expert = make_expert(config.sim)
    explorer = Explorer(env.spec.action_size)
    software = _software()
    try:
        for index in range(num_expert + num_exploratory):
            is_expert = index < num_expert
            rng = np.random.default_rng([seed, index])
            provenance = Provenance(
                actor=actor,
                incarnation=f"offline-{seed}",
                source=Source.OFFLINE,
                seed=int(rng.integers(2**31)),
                started_unix_ns=unix_ns(),
                software=software,
                note=EXPERT_NOTE if is_expert else EXPLORER_NOTE,
            )
            yield collect_trial(
                env,
                expert if is_expert else explorer,
                provenance,
                rng=rng,
                trial_id=make_trial_id(),
            )
    finally:
        env.close()


def _software() -> str:
    try:
        return f"offworld {importlib.metadata.version('offworld')}"
    except importlib.metadata.PackageNotFoundError:
        return "offworld, not installed"
