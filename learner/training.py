"""Builds a trainer from a job: the store, the algorithm, and where their numbers live."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from learner.algorithms.registry import make_algorithm, policy_config_from_json
from learner.clock import Clock
from learner.store import TrialStore
from learner.trainer import Trainer
from learner.trainer_config import TrainerJob


def build_trainer(job: TrainerJob, *, clock: Clock | None = None) -> Trainer:
    """Returns the trainer that `job` describes, resumed from the store's newest checkpoint.

    Raises:
        StoreNotFound: The store does not exist; whoever commits trials makes it.
        StoreLocked: Another trainer works on it.
        ValueError: The algorithm's configuration is not one.
    """
    config = job.trainer
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = _device(job.device)
    algorithm_config = policy_config_from_json(job.policy_config)
    store = TrialStore.open(Path(job.store), read_only=True)
    return Trainer(
        config=config,
        algorithm=make_algorithm(algorithm_config, job.spec, device, job.seed),
        spec=job.spec,
        policy_config=job.policy_config,
        horizon=algorithm_config.horizon,
        store=store,
        device=device,
        replay_device=_replay_device(job, device, store),
        seed=job.seed,
        learner_id=job.learner_id,
        clock=clock,
    )


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def _replay_device(job: TrainerJob, device: torch.device, store: TrialStore) -> torch.device:
    if job.trainer.replay_device != "auto" or device.type == "cpu":
        return device if job.trainer.replay_device == "auto" else _device(job.trainer.replay_device)
    frame_bytes = sum(
        math.prod(f.shape) * np.dtype(f.dtype).itemsize for f in job.spec.observations
    )
    num_rows = sum(row.num_steps + 1 for row in store.iter_rows(is_trainable=True))
    free_bytes, _ = torch.cuda.mem_get_info(device)
    # Three times: the arrays double while the old ones are still there.
    fits = 3 * num_rows * frame_bytes < free_bytes / 2
    return device if fits else torch.device("cpu")
