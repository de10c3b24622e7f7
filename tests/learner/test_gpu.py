import dataclasses

import pytest
import torch

from learner.algorithms.fowm import FowmAlgorithm
from learner.algorithms.fowm_policy import FowmPolicy
from tests.learner.fowm_cases import SMALL_PLANNER, make_batch, make_config, make_spec

pytestmark = pytest.mark.gpu
SPEC = make_spec()


def test_recorded_updates_equal_ordinary_ones():
    algorithms = [
        FowmAlgorithm(make_config(cuda_graphs=is_recorded), SPEC, "cuda", seed=0)
        for is_recorded in (False, True)
    ]
    for i in range(12):
        batch = make_batch(SPEC, horizon=4, size=6, seed=i).to("cuda")
        draws = algorithms[0].draw(6)
        a, b = (algorithm.update(batch, draws) for algorithm in algorithms)
        torch.testing.assert_close(a.metrics, b.metrics, rtol=1e-3, atol=1e-4)
    a, b = (algorithm.actor_tensors() for algorithm in algorithms)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_recorded_plans_equal_those_of_a_cpu():
    planner = dataclasses.replace(SMALL_PLANNER, search="full")
    tensors = FowmAlgorithm(make_config(), SPEC, "cpu", seed=0).actor_tensors()
    policies = [FowmPolicy(make_config(planner=planner), SPEC, d, seed=0) for d in ("cpu", "cuda")]
    for policy in policies:
        policy.load(tensors)
        policy.warm_up()
        policy.reset()
    for _ in range(6):
        draws = policies[0].draw(is_eval=True)
        moved = dataclasses.replace(
            draws,
            **{f.name: getattr(draws, f.name).to("cuda") for f in dataclasses.fields(draws)},
        )
        observation = {
            f.name: torch.zeros(f.shape, dtype=getattr(torch, f.dtype)).numpy()
            for f in SPEC.observations
        }
        a = policies[0].act(observation, is_eval=True, draws=draws)
        b = policies[1].act(observation, is_eval=True, draws=moved)
        assert a.value == pytest.approx(b.value, abs=1e-3)


def test_divergence_is_found_when_it_is_asked_for():
    algorithm = FowmAlgorithm(make_config(), SPEC, "cuda", seed=0)
    batch = make_batch(SPEC, horizon=4, size=6, seed=0).to("cuda")
    batch.reward.fill_(torch.nan)
    algorithm.update(batch)
    with pytest.raises(ArithmeticError, match="not finite"):
        algorithm.actor_tensors()
