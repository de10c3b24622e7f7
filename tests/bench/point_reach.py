"""A point that reaches for a goal in the plane: enough to train a planner's networks on in seconds.

Networks that have learned nothing agree on everything, and how much the planner can leave out
depends on how much they disagree; so the plan is timed with these.
"""

from __future__ import annotations

import numpy as np
import torch

from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from learner.batch import Batch
from protos.trial import FieldSpec, RobotSpec

NUM_STEPS, STEP_M, REACH_M, TOLERANCE_M = 25, 0.0225, 0.15, 0.018

SPEC = RobotSpec(
    task="point",
    observations=(FieldSpec(name="state", dtype="float32", shape=(4,)),),
    action_names=("x", "y", "z", "gripper"),
    action_scale=(STEP_M,) * 4,
    control_hz=10.0,
    max_steps=NUM_STEPS,
)


def make_trials(num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns noisy reaches: states [L + 1, N, 4], actions [L, N, 4], sparse rewards [L, N]."""
    states = np.zeros((NUM_STEPS + 1, num, 4), np.float32)
    actions = np.zeros((NUM_STEPS, num, 4), np.float32)
    rewards = np.zeros((NUM_STEPS, num), np.float32)
    states[0] = rng.uniform(-REACH_M, REACH_M, (num, 4))
    noise = rng.choice([0.3, 0.6, 1.0, 2.0], (num, 1))
    for t in range(NUM_STEPS):
        tool, goal = states[t, :, :2], states[t, :, 2:]
        wanted = np.concatenate([(goal - tool) / STEP_M, np.zeros((num, 2))], 1)
        actions[t] = np.clip(wanted + noise * rng.normal(size=(num, 4)), -1, 1)
        moved = np.clip(tool + STEP_M * actions[t, :, :2], -REACH_M, REACH_M)
        states[t + 1] = np.concatenate([moved, goal], 1)
        rewards[t] = np.linalg.norm(moved - goal, axis=1) < TOLERANCE_M
    return states, actions, rewards


def sample(
    trials: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
    *,
    horizon: int,
    size: int,
) -> Batch:
    """Returns random windows; those over a trial's end repeat its last step."""
    states, actions, rewards = trials
    column = rng.integers(states.shape[1], size=size)
    start = rng.integers(NUM_STEPS, size=size)
    row = np.minimum(start + np.arange(horizon)[:, None], NUM_STEPS - 1)
    done = (row == NUM_STEPS - 1).astype(np.float32)
    return Batch(
        observations={"state": torch.from_numpy(states[start, column])},
        next_observations={"state": torch.from_numpy(states[row + 1, column])},
        action=torch.from_numpy(actions[row, column]),
        reward=torch.from_numpy(rewards[row, column])[..., None],
        mask=torch.ones(horizon, size, 1),
        done=torch.from_numpy(done)[..., None],
        weights=torch.ones(size),
        indices=torch.arange(size),
        source=torch.zeros(size, dtype=torch.int64),
    )


def train(config: FowmConfig, *, num_updates: int, size: int, seed: int = 0) -> FowmAlgorithm:
    """Returns a learner after some updates on 100 trials."""
    rng = np.random.default_rng(seed)
    trials = make_trials(100, rng)
    algorithm = FowmAlgorithm(config, SPEC, "cpu", seed)
    bound = np.full(4, REACH_M, np.float32)
    algorithm.set_ranges({"state": (-bound, bound)})
    for _ in range(num_updates):
        algorithm.update(sample(trials, rng, horizon=config.horizon, size=size))
    return algorithm


def start_states(num: int, seed: int = 1) -> np.ndarray:
    """Returns states along noisy reaches, to plan from. [num, 4]"""
    states, _, _ = make_trials(num, np.random.default_rng(seed))
    rows = np.linspace(0, NUM_STEPS, num).astype(int)
    return states[rows, np.arange(num)]
