import dataclasses

import numpy as np
import pytest
import torch

from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from learner.algorithms.registry import make_algorithm, make_policy
from learner.batch import Batch
from learner.planner_config import PlannerConfig
from tests.contracts.algorithm import AlgorithmContract
from tests.learner import chain
from tests.learner.fowm_cases import make_spec

CHAIN_CONFIG = FowmConfig(
    latent_size=10,
    mlp_size=64,
    state_hidden=32,
    horizon=3,
    discount=chain.DISCOUNT,
    learning_rate=3e-3,
    target_tau=0.1,
    target_every=1,
    planner=PlannerConfig(num_samples=64, num_elites=16, iterations=3),
)


class TestFowmContract(AlgorithmContract):
    num_updates = 150
    config = CHAIN_CONFIG

    def make_algorithm(self, seed=0):
        return make_algorithm(self.config, chain.SPEC, "cpu", seed)

    def make_policy(self, seed=0):
        return make_policy(self.config, chain.SPEC, "cpu", seed)

    def make_batch(self, rng):
        return chain.make_chain_batch(rng, horizon=3, size=64)


class TestAveragedFowmContract(TestFowmContract):
    config = dataclasses.replace(CHAIN_CONFIG, average_decay=0.9)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_values_of_the_chain_approach_the_exact_expectiles():
    algorithm = FowmAlgorithm(CHAIN_CONFIG, chain.SPEC, "cpu", seed=0)
    rng = np.random.default_rng(0)
    for _ in range(300):
        algorithm.update(chain.make_chain_batch(rng, horizon=3, size=64))
    with torch.no_grad():
        z = algorithm.model.encode({"state": chain.one_hot(range(chain.GOAL))})
        values = algorithm.model.value(z)
    np.testing.assert_allclose(values, chain.exact_values(0.9), atol=0.1)


def test_a_bandits_q_is_its_reward_and_v_their_expectile():
    spec = make_spec(image_size=None, state_size=2, num_actions=1)
    config = FowmConfig(
        latent_size=6,
        mlp_size=32,
        state_hidden=16,
        horizon=1,
        learning_rate=3e-3,
        target_tau=1.0,
        target_every=1,
        expectile=0.8,
    )
    algorithm, size = FowmAlgorithm(config, spec, "cpu", seed=0), 64
    action = torch.tensor([-1.0, 1.0]).repeat(size // 2)[None, :, None]
    state = torch.zeros(size, 2)
    batch = Batch(
        observations={"state": state},
        next_observations={"state": state[None]},
        action=action,
        reward=(action > 0).float(),
        mask=torch.zeros(1, size, 1),
        done=torch.ones(1, size, 1),
        weights=torch.ones(size),
        indices=torch.arange(size),
        source=torch.zeros(size, dtype=torch.int64),
    )
    for _ in range(250):
        algorithm.update(batch)
    with torch.no_grad():
        z = algorithm.model.encode({"state": state[:2]})
        q = algorithm.model.q_values(z, action[0, :2])
        v = algorithm.model.value(z)
    np.testing.assert_allclose(q, np.tile([0.0, 1.0], (5, 1)), atol=0.05)
    np.testing.assert_allclose(v, [0.8, 0.8], atol=0.05)
