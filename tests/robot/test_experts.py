from __future__ import annotations

import numpy as np
import pytest

from protos.trial import Provenance, Source, Trial
from robot.collect import collect_trial
from robot.observation import Observation
from robot.sim.config import SimConfig
from robot.sim.experts import Explorer, PickExpert, ReachExpert
from tests.robot.doubles import make_blind_env

REACH = SimConfig(image_size=8)
PICK = SimConfig(image_size=8, task="pick")


def run(config, expert, num_trials) -> list[Trial]:
    env, _ = make_blind_env(config)
    trials = []
    for index in range(num_trials):
        provenance = Provenance(
            actor="test",
            incarnation="test",
            source=Source.OFFLINE,
            seed=1000 + index,
            started_unix_ns=0,
            software="test",
        )
        rng = np.random.default_rng([1, index])
        trials.append(collect_trial(env, expert, provenance, rng=rng))
    return trials


def success_rate(trials: list[Trial]) -> float:
    return float(np.mean([trial.is_success for trial in trials]))


def test_the_noisy_reach_expert_succeeds_about_half_the_time():
    assert 0.35 <= success_rate(run(REACH, ReachExpert(REACH), 60)) <= 0.65


def test_the_noisy_pick_expert_succeeds_about_half_the_time():
    assert 0.35 <= success_rate(run(PICK, PickExpert(PICK), 50)) <= 0.65


@pytest.mark.parametrize("variation", ["none", "distractor", "tool_offset", "green_target"])
def test_a_reach_expert_without_error_always_succeeds(variation):
    config = SimConfig(image_size=8, variation=variation)
    expert = ReachExpert(config, aim_error_m=0.0, action_noise=0.0)
    assert success_rate(run(config, expert, 8)) == 1.0


@pytest.mark.parametrize("variation", ["none", "distractors", "green_octagon"])
def test_a_pick_expert_without_error_always_succeeds(variation):
    config = SimConfig(image_size=8, task="pick", variation=variation)
    expert = PickExpert(config, aim_error_m=0.0, action_noise=0.0, drop_rate=0.0)
    trials = run(config, expert, 8)
    assert success_rate(trials) == 1.0
    for trial in trials:
        rewards = trial.steps["reward"]
        assert set(rewards.tolist()) == {0.0, 0.5, 1.0}
        assert list(rewards) == sorted(rewards)


def test_an_expert_that_drops_everything_lifts_nothing():
    expert = PickExpert(PICK, aim_error_m=0.0, action_noise=0.0, drop_rate=1.0)
    trials = run(PICK, expert, 4)
    assert success_rate(trials) == 0.0
    assert any(0.5 in trial.steps["reward"] for trial in trials)


def test_exploration_covers_the_box_and_runs_into_its_borders():
    trials = run(REACH, Explorer(2), 15)
    places = np.concatenate([trial.observations["state"][:, :2] for trial in trials])
    assert np.all(places.min(axis=0) < (0.27, -0.13))
    assert np.all(places.max(axis=0) > (0.53, 0.13))
    assert np.mean([trial.steps["clamped"].any() for trial in trials]) > 0.8
    actions = trials[0].steps["action"]
    assert np.abs(actions).max() <= 1.0


def test_wild_motion_in_pick_breaks_nothing():
    config = SimConfig(image_size=8, task="pick", variation="distractors", max_steps=60)
    trials = run(config, Explorer(4), 5)
    for trial in trials:
        state = trial.observations["state"]
        assert np.all(state[:, :3] > np.array(config.limits.box_low_m) - 0.02)
        assert np.all(state[:, :3] < np.array(config.limits.box_high_m) + 0.02)
        assert np.all(np.abs(state[:, 3] - np.pi) < 0.2)


@pytest.mark.parametrize("make", [ReachExpert, PickExpert])
def test_experts_say_that_they_need_truth(make):
    expert = make(REACH)
    expert.begin(np.random.default_rng(0))
    with pytest.raises(ValueError, match="truth"):
        expert.act(Observation(fields={}, t_observed_ns=0))
