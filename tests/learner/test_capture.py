import dataclasses
from dataclasses import dataclass

import pytest
import torch

from learner.capture import StaticCall, clone_tree, copy_tree
from learner.mppi import PlanDraws, draw_plan, plan
from tests.learner.fowm_cases import SMALL_PLANNER, make_config, make_random_algorithm, make_spec


@dataclass(frozen=True)
class Pair:
    left: torch.Tensor
    right: dict[str, torch.Tensor]


def make_pair(value: float) -> Pair:
    return Pair(left=torch.full((2,), value), right={"x": torch.full((3,), value), "n": 7})


def test_trees_are_copied_deeply_and_filled_in_place():
    first = make_pair(1.0)
    copied = clone_tree(first)
    copy_tree(copied, make_pair(2.0))
    assert first.left.tolist() == [1, 1]
    assert copied.left.tolist() == [2, 2]
    assert copied.right["x"].tolist() == [2, 2, 2]
    assert copied.right["n"] == 7


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"recorded for \(2,\), got \(3,\)"):
        copy_tree(torch.zeros(2), torch.zeros(3))


def test_inputs_and_outputs_are_apart_from_the_buffers():
    addresses = []

    def function(pair: Pair) -> Pair:
        addresses.append(pair.left.data_ptr())
        return Pair(left=pair.left.mul_(2), right=pair.right)

    call, given = StaticCall(function, torch.device("cpu")), make_pair(1.0)
    first, second = call(given), call(make_pair(5.0))
    assert given.left.tolist() == [1, 1]
    assert first.left.tolist() == [2, 2]
    assert second.left.tolist() == [10, 10]
    assert len(set(addresses)) == 1


def test_a_plan_on_static_buffers_gives_the_same_numbers():
    config = dataclasses.replace(SMALL_PLANNER, search="full")
    model = make_random_algorithm(make_config(), make_spec()).model.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)

    def direct(z: torch.Tensor, mean: torch.Tensor, has_previous: torch.Tensor, draws: PlanDraws):
        return plan(
            model, z, mean, has_previous, config, draws, discount=0.9, uncertainty_weight=1.0
        )

    static = StaticCall(direct, torch.device("cpu"))
    mean, has_previous = torch.zeros(1, 4, 3), torch.zeros(1)
    for _ in range(3):
        draws = draw_plan(
            config, horizon=4, num_actions=3, num_q=5, generator=generator, is_eval=False
        )
        z = torch.rand(1, 8, generator=generator)
        a, b = (f(z, mean, has_previous, draws) for f in (direct, static))
        for field in dataclasses.fields(a):
            assert torch.equal(getattr(a, field.name), getattr(b, field.name))
        mean, has_previous = b.mean, torch.ones(1)
