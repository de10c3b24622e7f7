"""What every learning algorithm must do, whatever it learns."""

from typing import Any

import numpy as np
import pytest
import torch

from learner.algorithms.base import Algorithm, DivergedError, Policy, WeightsRejected
from learner.batch import Batch
from tests.learner import chain


class AlgorithmContract:
    """Base class; a subclass says how to make one for the chain of five states."""

    num_updates: int
    """Updates within which the chain must be solved."""

    def make_algorithm(self, seed: int = 0) -> Algorithm:
        raise NotImplementedError

    def make_policy(self, seed: int = 0) -> Policy:
        raise NotImplementedError

    def make_batch(self, rng: np.random.Generator) -> Batch:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _one_thread(self):
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    def test_update_reports_tensors_and_counts(self):
        algorithm = self.make_algorithm()
        batch = self.make_batch(np.random.default_rng(0))
        result = algorithm.update(batch)
        assert result.priorities.shape == (batch.size,)
        assert bool((result.priorities >= 0).all())
        assert "total_loss" in result.metrics
        assert "grad_norm" in result.metrics
        for name, value in result.metrics.items():
            assert value.shape == (), name
            assert not value.requires_grad, name
            assert bool(value.isfinite()), name
        assert algorithm.num_updates == 1

    def test_state_holds_plain_values_only(self):
        algorithm = self.make_algorithm()
        algorithm.update(self.make_batch(np.random.default_rng(0)))

        def check(value: Any) -> None:
            if isinstance(value, dict):
                assert all(isinstance(key, str) for key in value)
                for item in value.values():
                    check(item)
            else:
                assert isinstance(value, torch.Tensor | int | float | bool | str)

        check(algorithm.state_dict())

    def test_resuming_equals_going_on(self):
        rng = np.random.default_rng(0)
        batches = [self.make_batch(rng) for _ in range(6)]
        straight, resumed = self.make_algorithm(), self.make_algorithm(seed=7)
        for batch in batches[:3]:
            straight.update(batch)
        resumed.load_state_dict(straight.state_dict())
        for batch in batches[3:]:
            straight.update(batch)
            resumed.update(batch)
        a, b = straight.actor_tensors(), resumed.actor_tensors()
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)

    def test_divergence_is_an_error_and_is_never_published(self):
        algorithm = self.make_algorithm()
        batch = self.make_batch(np.random.default_rng(0))
        batch.reward.fill_(torch.nan)

        def update_and_publish() -> None:
            algorithm.update(batch)
            algorithm.actor_tensors()

        with pytest.raises(DivergedError):
            update_and_publish()

    def test_weights_travel_as_arrays_and_must_fit(self):
        tensors = self.make_algorithm().actor_tensors()
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        assert all(a.dtype == np.float32 for a in arrays.values())
        policy = self.make_policy()
        policy.load(arrays)
        name = next(iter(arrays))
        for broken in (
            {k: v for k, v in arrays.items() if k != name},
            arrays | {"another": arrays[name]},
            arrays | {name: arrays[name][:-1]},
            arrays | {name: arrays[name].astype(np.float64)},
            arrays | {name: np.full_like(arrays[name], np.nan)},
        ):
            with pytest.raises(WeightsRejected):
                policy.load(broken)

    def test_the_rest_of_a_plan_is_there_to_be_acted_on_and_asking_changes_nothing(self):
        policies = [self.make_policy(seed=3) for _ in range(2)]
        tensors = self.make_algorithm().actor_tensors()
        for policy in policies:
            policy.load(tensors)
            policy.reset()
        asked, unasked = policies
        observation = {"state": chain.one_hot(0).numpy()}
        assert asked.rest_of_plan().shape == (0, 1)
        for _ in range(3):
            decisions = [policy.act(observation, is_eval=False) for policy in policies]
            assert np.array_equal(decisions[0].action, decisions[1].action)
            rest = asked.rest_of_plan()
            assert rest.dtype == np.float32
            assert rest.ndim == 2
            assert rest.shape[1] == 1
            assert np.isfinite(rest).all()
            assert np.abs(rest).max(initial=0.0) <= 1.0
            kept = rest.copy()
            rest.fill(9.0)
            assert np.array_equal(asked.rest_of_plan(), kept)
        asked.reset()
        assert asked.rest_of_plan().shape == (0, 1)

    def test_the_chain_is_solved(self):
        algorithm, rng = self.make_algorithm(), np.random.default_rng(0)
        for _ in range(self.num_updates):
            algorithm.update(self.make_batch(rng))
        policy = self.make_policy()
        policy.load(algorithm.actor_tensors())
        policy.warm_up()
        for start in range(chain.GOAL):
            state, is_end, steps = start, False, 0
            policy.reset()
            while not is_end and steps < 10:
                observation = {"state": chain.one_hot(state).numpy()}
                decision = policy.act(observation, is_eval=True)
                assert decision.action.dtype == np.float32
                assert decision.action.shape == (1,)
                assert abs(float(decision.action[0])) <= 1.0
                state, _, is_end = chain.move(state, float(decision.action[0]))
                steps += 1
            assert is_end
            assert steps == chain.GOAL - start
