"""Weights of a small random FOWM, published as a learner would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from learner.algorithms.registry import make_algorithm, policy_config_to_json
from learner.planner_config import PlannerConfig
from learner.weights import WeightsManifest, WeightStore
from protos.trial import RobotSpec
from tests.learner.fowm_cases import make_config

CONFIG = make_config(horizon=3, planner=PlannerConfig(num_samples=16, num_elites=4, iterations=2))


def small_tensors(spec: RobotSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random weights that fit `CONFIG` and `spec`."""
    torch.set_num_threads(1)
    algorithm = make_algorithm(CONFIG, spec, "cpu", seed)
    return {name: tensor.numpy() for name, tensor in algorithm.actor_tensors().items()}


def publish(
    root: Path,
    spec: RobotSpec,
    *,
    ledger_seq: int = 0,
    tensors: dict[str, np.ndarray] | None = None,
    spec_digest: str | None = None,
    policy_config: str | None = None,
) -> WeightsManifest:
    """Publishes a version under `root`; what is not given is right."""
    return WeightStore(root).publish(
        small_tensors(spec) if tensors is None else tensors,
        train_step=1,
        spec_digest=spec.digest() if spec_digest is None else spec_digest,
        policy_config=policy_config_to_json(CONFIG) if policy_config is None else policy_config,
        ledger_seq=ledger_seq,
        num_online_trials=0,
        learner_id="test",
    )
