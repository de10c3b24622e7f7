"""A chain of five states that every algorithm can solve in seconds, and its exact solution."""

import numpy as np
import torch

from learner.batch import Batch
from protos.trial import FieldSpec, RobotSpec

NUM_STATES = 5
GOAL = NUM_STATES - 1
DISCOUNT = 0.9

SPEC = RobotSpec(
    task="chain",
    observations=(FieldSpec(name="state", dtype="float32", shape=(NUM_STATES,)),),
    action_names=("move",),
    action_scale=(1.0,),
    control_hz=10.0,
    max_steps=25,
)


def move(state: int, action: float) -> tuple[int, float, bool]:
    """Goes right for a positive action, else left; the last state pays 1 and ends the trial."""
    after = min(state + 1, GOAL) if action > 0 else max(state - 1, 0)
    return after, float(after == GOAL), after == GOAL


def one_hot(states) -> torch.Tensor:
    """Returns what a robot in these states sees. [...] -> [..., 5]"""
    return torch.eye(NUM_STATES)[torch.as_tensor(states)]


def make_chain_batch(rng: np.random.Generator, *, horizon: int, size: int) -> Batch:
    """Returns windows of an evenly random policy with actions near -1 and 1."""
    states = np.zeros((horizon + 1, size), np.int64)
    states[0] = rng.integers(0, GOAL, size)
    action = rng.choice([-1.0, 1.0], (horizon, size)) * rng.uniform(0.8, 1.0, (horizon, size))
    reward, done = np.zeros((horizon, size)), np.zeros((horizon, size))
    for t in range(horizon):
        for b in range(size):
            states[t + 1, b], reward[t, b], done[t, b] = move(states[t, b], action[t, b])

    def column(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32)[..., None]

    return Batch(
        observations={"state": one_hot(states[0])},
        next_observations={"state": one_hot(states[1:])},
        action=column(action),
        reward=column(reward),
        mask=column(1 - done),
        done=column(done),
        weights=torch.ones(size),
        indices=torch.arange(size),
        source=torch.zeros(size, dtype=torch.int64),
    )


def exact_values(expectile: float) -> np.ndarray:
    """Returns V: the expectile over both moves of their value, by iteration. [4]"""
    values = np.zeros(NUM_STATES)
    for _ in range(500):
        for state in range(GOAL):
            q = np.array([_q(values, state, -1.0), _q(values, state, 1.0)])
            weight = np.where(q == q.max(), expectile, 1 - expectile)
            values[state] = (weight * q).sum() / weight.sum()
    return values[:GOAL]


def _q(values: np.ndarray, state: int, action: float) -> float:
    after, reward, is_end = move(state, action)
    return reward + DISCOUNT * (not is_end) * values[after]
