"""The demo's robot, and its policy trained for a moment.

How much a plan can leave out depends on how much the networks disagree, and networks that have
learned nothing agree on everything: so the loop is measured with some that have learned a little.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learner.algorithms.registry import AlgorithmConfig
from learner.store import TrialStore
from learner.training import build_trainer
from robot.sim.offline import OfflineDataConfig, make_offline_trials
from services.actor_config import ActorConfig
from services.config import build_file
from services.demo_config import CONFIGS
from services.learner_config import LearnerConfig

NUM_EXPERT_TRIALS, NUM_EXPLORATORY_TRIALS, NUM_UPDATES = 16, 4, 100


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Weights, and what they are of."""

    tensors: dict[str, np.ndarray]
    algorithm: AlgorithmConfig


def actor_config(folder: Path, *, control_hz: float, policy: str) -> ActorConfig:
    """Returns the actor of the demo, without a learner; it goes from trial to trial without a wait.

    Args:
        folder: Gets the spool.
        control_hz: Instead of the demo's 10.
        policy: `model` or `random`.
    """
    demo = build_file(ActorConfig, CONFIGS / "demo-actor.toml")
    changes: dict[str, object] = {
        "spool": folder / "spool",
        "reserve_bytes": 1 << 20,
        "policy": policy,
        "trials": None,
        "wait_weights_s": 0.0,
        "sim": dataclasses.replace(demo.sim, control_hz=control_hz),
        "max_missed_in_a_row": demo.sim.max_steps + 1,  # a slow planner shows as misses, not aborts
        "drain_s": 60.0,
    }
    return dataclasses.replace(demo, **changes)


def train_briefly(folder: Path) -> Learned:
    """Returns the demo's weights after a few updates on a few trials.

    Args:
        folder: Gets the store of the trials.
    """
    demo = build_file(LearnerConfig, CONFIGS / "demo-learner.toml")
    data = OfflineDataConfig(
        sim=build_file(ActorConfig, CONFIGS / "demo-actor.toml").sim,
        num_expert_trials=NUM_EXPERT_TRIALS,
        num_exploratory_trials=NUM_EXPLORATORY_TRIALS,
    )
    store = TrialStore.open(folder)
    try:
        for trial in make_offline_trials(data, seed=0):
            store.commit(trial)
    finally:
        store.close()
    trainer_config = dataclasses.replace(
        demo.trainer,
        num_pretrain_updates=NUM_UPDATES,
        is_tensorboard_on=False,
        num_threads=None,  # else this whole process is left with one
    )
    job = dataclasses.replace(demo, store=folder, trainer=trainer_config).job()
    trainer = build_trainer(job)
    try:
        trainer.run_until_settled()
        tensors = {name: t.numpy() for name, t in trainer.algorithm.actor_tensors().items()}
        return Learned(tensors=tensors, algorithm=demo.algorithm)
    finally:
        trainer.close()
