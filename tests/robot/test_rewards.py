from __future__ import annotations

import numpy as np
import pytest

from robot.interfaces import Reward
from robot.observation import Observation
from robot.rewards import PickReward, ReachReward


def seen(truth):
    return Observation(fields={}, t_observed_ns=0, truth=truth)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((0.40, 0.0, 0.03), 1.0),
        ((0.40, 0.0, 0.30), 1.0),
        ((0.4179, 0.0, 0.03), 1.0),
        ((0.4181, 0.0, 0.03), 0.0),
        ((0.415, 0.015, 0.03), 0.0),
    ],
)
def test_reach_measures_in_the_plane(held, expected):
    reward = ReachReward(0.018)
    truth = {"held_m": np.array(held), "target_m": np.array((0.40, 0.0, 0.0))}
    value = reward(seen(truth))
    assert value == expected
    assert reward.is_success(value) is (expected == 1.0)


@pytest.mark.parametrize(
    ("lift_m", "is_grasped", "expected"),
    [(0.0, False, 0.0), (0.2, False, 0.0), (0.0, True, 0.5), (0.049, True, 0.5), (0.05, True, 1.0)],
)
def test_pick_has_three_levels(lift_m, is_grasped, expected):
    reward = PickReward(0.05)
    value = reward(seen({"lift_m": lift_m, "is_grasped": is_grasped}))
    assert value == expected
    assert reward.is_success(value) is (expected == 1.0)


@pytest.mark.parametrize("reward", [ReachReward(0.018), PickReward(0.05)])
def test_truth_is_needed(reward):
    assert isinstance(reward, Reward)
    with pytest.raises(ValueError, match="truth"):
        reward(seen(None))
