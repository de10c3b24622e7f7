from __future__ import annotations

import itertools

import numpy as np
import pytest

from protos.trial import (
    FALLBACK_CODES,
    Fallback,
    Outcome,
    Provenance,
    Source,
    new_trial_id,
)
from robot.clock import SimulatedClock
from robot.collect import collect_trial
from robot.fakes import make_counting_env
from robot.faulty_camera import CameraTrouble
from robot.sim.config import SimConfig
from robot.sim.experts import Explorer
from robot.sim.offline import EXPERT_NOTE, EXPLORER_NOTE, OfflineDataConfig, make_offline_trials

SMALL = SimConfig(image_size=16, max_steps=4)


def make_provenance(**changes) -> Provenance:
    values = {
        "actor": "test",
        "incarnation": "one",
        "source": Source.EVAL,
        "seed": 3,
        "started_unix_ns": 0,
        "software": "test",
    }
    return Provenance(**(values | changes))


def make_ids():
    numbers = itertools.count()
    return lambda: new_trial_id(lambda: next(numbers) * 10**6, lambda n: bytes(n))


def test_a_counting_trial_counts():
    env = make_counting_env(SimulatedClock(), max_steps=10, success_at=7)
    trial = collect_trial(env, Explorer(2), make_provenance(), rng=np.random.default_rng(0))
    counts = np.arange(11)
    assert trial.num_steps == 10
    assert np.array_equal(trial.observations["state"][:, 0], counts)
    assert np.array_equal(trial.observations["image.front"][:, 0, 0, 0], counts)
    # Row t is what was seen before action t, its reward what that action led to.
    assert trial.steps["reward"].tolist() == [0.0] * 6 + [1.0] * 4
    assert trial.outcome is Outcome.SUCCESS
    assert trial.steps["truncated"].tolist() == [False] * 9 + [True]
    assert not trial.steps["terminated"].any()
    assert not trial.steps["deadline_missed"].any()
    assert np.array_equal(trial.steps["t_scheduled_ns"], np.arange(10) * 100_000_000)
    assert np.array_equal(trial.steps["t_commanded_ns"], trial.steps["t_scheduled_ns"])
    assert np.isnan(trial.steps["plan_value"]).all()
    assert np.allclose(trial.steps["action"], trial.steps["action_executed"])


def test_a_trial_without_success_is_a_failure():
    env = make_counting_env(SimulatedClock(), max_steps=3)
    trial = collect_trial(env, Explorer(2), make_provenance(), rng=np.random.default_rng(0))
    assert trial.outcome is Outcome.FAILURE
    assert trial.total_reward == 0.0


def test_a_step_from_a_stale_observation_is_held_and_recorded_so():
    troubles = dict.fromkeys(range(2, 7), CameraTrouble.FREEZE)
    env = make_counting_env(SimulatedClock(), max_steps=10, camera_troubles=troubles)
    steps = collect_trial(env, Explorer(2), make_provenance(), rng=np.random.default_rng(0)).steps
    held = [False] * 4 + [True] * 3 + [False] * 3
    hold = FALLBACK_CODES[Fallback.HOLD]
    assert steps["fallback"].tolist() == [hold if is_held else 0 for is_held in held]
    assert (~steps["action"].any(1)).tolist() == held
    ages_ns = steps["t_scheduled_ns"] - steps["t_observed_ns"]
    assert (ages_ns // 100_000_000).tolist() == [0, 0, 1, 2, 3, 4, 5, 0, 0, 0]


def test_offline_trials_come_in_order_and_say_what_they_are():
    config = OfflineDataConfig(sim=SMALL, num_expert_trials=2, num_exploratory_trials=1)
    trials = list(make_offline_trials(config, 0))
    assert [trial.provenance.note for trial in trials] == [EXPERT_NOTE, EXPERT_NOTE, EXPLORER_NOTE]
    assert len({trial.trial_id for trial in trials}) == 3
    assert len({trial.provenance.seed for trial in trials}) == 3
    for trial in trials:
        assert trial.is_trainable
        assert trial.provenance.source is Source.OFFLINE
        assert trial.observations["image.front"].std(axis=(1, 2, 3)).min() > 5


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_the_same_seed_gives_the_same_trials_to_the_bit(task):
    sim = SimConfig(task=task, image_size=16, max_steps=6)
    config = OfflineDataConfig(sim=sim, num_expert_trials=2, num_exploratory_trials=1)

    def digests(seed: int) -> list[str]:
        trials = make_offline_trials(config, seed, make_trial_id=make_ids(), unix_ns=lambda: 0)
        return [trial.digest() for trial in trials]

    first = digests(0)
    assert digests(0) == first
    assert set(digests(1)).isdisjoint(first)


def test_default_counts_are_the_papers():
    assert OfflineDataConfig().counts == (100, 20)
    assert OfflineDataConfig(sim=SimConfig(task="pick")).counts == (200, 0)
    assert OfflineDataConfig(num_expert_trials=5, num_exploratory_trials=0).counts == (5, 0)
    with pytest.raises(ValueError, match="num_expert_trials"):
        OfflineDataConfig(num_expert_trials=-1)
