"""One trial: what is recorded, on which deadlines, and what happens when something is late."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from protos.trial import Outcome
from robot.fakes import make_counting_env
from robot.faulty_camera import CameraTrouble
from robot.interfaces import RobotFault
from services.pilot import RandomChoice, RandomPilot
from services.trial_run import STOPPED, TrialLimits, TrialResult
from tests.services.trial_bench import (
    HOLD,
    MS,
    NONE,
    PERIOD_NS,
    SHIFTED,
    Bench,
    PlannedPilot,
    StallingClock,
)


def test_the_robot_is_told_that_a_trial_is_over_unless_a_fault_ended_it(bench: Bench) -> None:
    told: list[int] = []
    bench.env.rest = lambda: told.append(bench.clock.now_ns())
    bench.run(PlannedPilot(bench.clock))
    assert told == [bench.clock.now_ns()]
    assert bench.ring is not None
    bench.ring.unlink()
    broken = make_counting_env(bench.clock, fault_at_command=2)
    broken.rest = lambda: told.append(-1)
    assert bench.run(PlannedPilot(bench.clock), env=broken).fault is not None
    assert len(told) == 1


def test_a_trial_is_contiguous_and_on_time(bench: Bench) -> None:
    result = bench.run(PlannedPilot(bench.clock, [30.0] * 8))
    trial = bench.trial()
    assert result.outcome is Outcome.FAILURE
    assert (result.summary.num_steps, result.summary.num_missed) == (8, 0)
    assert (trial.outcome, trial.num_steps, trial.abort_reason) == (Outcome.FAILURE, 8, "")
    np.testing.assert_array_equal(trial.observations["state"][:, 0], np.arange(9))
    np.testing.assert_array_equal(trial.observations["image.front"][:, 3, 4, 1], np.arange(9))
    steps = trial.steps
    np.testing.assert_allclose(steps["action"][:, 0], np.arange(8) / 100, rtol=1e-6)
    np.testing.assert_allclose(steps["action_executed"], steps["action"], rtol=1e-6)
    np.testing.assert_array_equal(steps["plan_value"], np.arange(8))
    np.testing.assert_allclose(steps["plan_uncertainty"], 0.1 * np.arange(8), rtol=1e-6)
    np.testing.assert_array_equal(np.diff(steps["t_scheduled_ns"]), PERIOD_NS)
    np.testing.assert_array_equal(steps["t_observed_ns"], steps["t_scheduled_ns"])
    for name in ("t_planned_ns", "t_commanded_ns"):
        np.testing.assert_array_equal(steps[name] - steps["t_scheduled_ns"], 30 * MS)
    assert steps["truncated"].tolist() == [False] * 7 + [True]
    assert not steps["terminated"].any()
    assert not steps["deadline_missed"].any()
    assert set(steps["weights_version"]) == {3}
    assert set(steps["fallback"]) == {NONE}
    assert (result.summary.late_p99_ms, result.summary.plan_ms) == (30.0, 30.0)


def test_a_reward_belongs_to_the_action_that_earned_it(bench: Bench) -> None:
    env = make_counting_env(bench.clock, max_steps=8, success_at=4)
    result = bench.run(PlannedPilot(bench.clock), env=env)
    assert result.outcome is Outcome.SUCCESS
    assert bench.trial().steps["reward"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("plan_ms", "is_missed"), [(99.0, False), (100.0, False), (101.0, True)])
def test_a_step_is_missed_when_commanded_a_period_late(
    bench: Bench, plan_ms: float, *, is_missed: bool
) -> None:
    result = bench.run(PlannedPilot(bench.clock, [0, 0, plan_ms]))
    assert (
        bench.trial().steps["deadline_missed"].tolist() == [False] * 2 + [is_missed] + [False] * 5
    )
    assert result.summary.num_missed == is_missed
    assert bench.ring is not None
    assert bench.ring.control.num_missed == is_missed


def test_after_an_overrun_the_action_gets_time_to_act_and_deadlines_stay_put(bench: Bench) -> None:
    bench.run(PlannedPilot(bench.clock, [0, 130.0, 0, 310.0]))
    steps = bench.trial().steps
    start_ns = int(steps["t_scheduled_ns"][0])
    ticks = (steps["t_scheduled_ns"] - start_ns) / PERIOD_NS
    assert ticks.tolist() == [0, 1, 3, 4, 8, 9, 10, 11]
    # Every observation was taken at a deadline that lay after the command before it.
    assert (steps["t_observed_ns"][1:] >= steps["t_commanded_ns"][:-1]).all()
    np.testing.assert_array_equal(bench.trial().observations["state"][:, 0], np.arange(9))


def test_an_action_too_uncertain_is_withheld(bench: Bench) -> None:
    bench.limits = TrialLimits(max_uncertainty=0.25)
    pilot = PlannedPilot(bench.clock)
    bench.run(pilot)
    steps = bench.trial().steps
    assert steps["fallback"].tolist() == [NONE, NONE, NONE, HOLD, HOLD, HOLD, HOLD, HOLD]
    assert (steps["action"][3:] == 0).all()
    assert steps["plan_value"].tolist() == list(range(8))


def test_the_rest_of_a_plan_that_was_withheld_is_not_executed_either(bench: Bench) -> None:
    bench.clock = StallingClock(dict.fromkeys((3, 5), 70.0))
    bench.env = make_counting_env(bench.clock, max_steps=8)
    bench.limits = TrialLimits(max_uncertainty=1.0)
    pilot = PlannedPilot(bench.clock, [60.0] * 8)
    pilot.uncertainty = lambda k: 2.0 if k == 2 else 0.1
    bench.run(pilot)
    steps = bench.trial().steps
    # Ticks 3 and 5 come late: after a withheld plan there is nothing, after a trusted one its rest.
    assert steps["fallback"].tolist() == [NONE, NONE, HOLD, HOLD, NONE, SHIFTED, NONE, NONE]
    assert (steps["action"][2:4] == 0).all()


def test_an_action_that_nobody_planned_is_not_withheld_for_being_uncertain(bench: Bench) -> None:
    bench.limits = TrialLimits(max_uncertainty=0.25)
    bench.run(RandomPilot(2, seed=0))
    steps = bench.trial().steps
    assert set(steps["fallback"]) == {NONE}
    assert (steps["action"] != 0).all()
    assert np.isnan(steps["plan_value"]).all()
    assert np.isnan(steps["plan_uncertainty"]).all()


def test_a_fault_stops_the_arm_and_aborts_the_trial(bench: Bench) -> None:
    env = make_counting_env(bench.clock, max_steps=8, fault_at_command=3)
    result = bench.run(PlannedPilot(bench.clock), env=env)
    trial = bench.trial()
    assert result.fault is not None
    assert result.fault.code == "collision"
    assert env.fault is not None
    assert (trial.outcome, trial.num_steps) == (Outcome.ABORTED, 3)
    assert "collision" in trial.abort_reason
    np.testing.assert_array_equal(trial.observations["state"][:, 0], np.arange(4))


@pytest.mark.parametrize("max_uncertainty", [None, 0.01])
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"action": np.array([np.nan, 0], np.float32)}, "action_not_finite"),
        ({"action": np.array([np.inf, 0], np.float32)}, "action_not_finite"),
        ({"action": np.array([0, -np.inf], np.float32)}, "action_not_finite"),
        (
            {"action": np.array([np.nan, 0], np.float32), "uncertainty": np.nan},
            "action_not_finite",
        ),
        ({"action": np.zeros(3, np.float32)}, "action_size"),
        ({"value": np.nan}, "plan_not_finite"),
        ({"value": np.inf}, "plan_not_finite"),
        ({"uncertainty": np.nan}, "plan_not_finite"),
        ({"uncertainty": np.inf}, "plan_not_finite"),
    ],
)
def test_an_insane_decision_latches_and_is_not_recorded_however_little_it_is_trusted(
    bench: Bench, bad: dict[str, Any], code: str, max_uncertainty: float | None
) -> None:
    bench.limits = TrialLimits(max_uncertainty=max_uncertainty)
    pilot = PlannedPilot(bench.clock)
    pilot.uncertainty = lambda _k: 0.001
    act = pilot.act

    def insane(observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        choice = act(observation, is_eval=is_eval)
        return dataclasses.replace(choice, **bad) if pilot.num_calls == 3 else choice

    pilot.act = insane  # type: ignore[method-assign]
    result = bench.run(pilot)
    assert result.fault is not None
    assert result.fault.code == code
    assert bench.env.fault is not None
    assert bench.env.fault.code == code, "the cause stays latched"
    with pytest.raises(RobotFault):
        bench.env.hold()
    assert (bench.trial().outcome, bench.trial().num_steps) == (Outcome.ABORTED, 2)


def test_an_observation_that_is_not_finite_latches(bench: Bench) -> None:
    observe = bench.env.observe
    seen = []

    def broken_observe() -> object:
        observation = observe()
        seen.append(observation)
        if len(seen) == 4:
            observation.fields["state"][2] = np.inf  # type: ignore[index]
        return observation

    bench.env.observe = broken_observe  # type: ignore[method-assign]
    result = bench.run(PlannedPilot(bench.clock))
    assert result.fault is not None
    assert result.fault.code == "observation_not_finite"
    assert bench.env.fault is not None
    assert bench.env.fault.code == "observation_not_finite"
    assert bench.trial().num_steps == 1


def blind(bench: Bench, reads: range, trouble: CameraTrouble, pilot: PlannedPilot) -> TrialResult:
    """Runs a trial in which the camera is in trouble at some reads; the reset is read 0."""
    bench.env = make_counting_env(
        bench.clock, max_steps=16, camera_troubles=dict.fromkeys(reads, trouble)
    )
    return bench.run(pilot)


def test_a_repeated_frame_is_planned_from_and_shows_in_the_record(bench: Bench) -> None:
    result = blind(bench, range(4, 5), CameraTrouble.RESTAMP, PlannedPilot(bench.clock))
    steps = bench.trial().steps
    ages_ms = (steps["t_scheduled_ns"] - steps["t_observed_ns"]) / MS
    assert ages_ms.tolist() == [0, 0, 0, 100] + [0] * 12
    assert set(steps["fallback"]) == {NONE}
    assert (result.outcome, result.summary.num_repeats) == (Outcome.FAILURE, 1)


@pytest.mark.parametrize("trouble", [CameraTrouble.FREEZE, CameraTrouble.RESTAMP])
def test_it_holds_while_the_camera_stands_still_and_plans_again_once_it_moves(
    bench: Bench, trouble: CameraTrouble
) -> None:
    pilot = PlannedPilot(bench.clock)
    result = blind(bench, range(4, 8), trouble, pilot)
    steps = bench.trial().steps
    ages_ms = (steps["t_scheduled_ns"] - steps["t_observed_ns"]) / MS
    assert ages_ms[3:8].tolist() == [100, 200, 300, 400, 0]
    assert steps["fallback"].tolist() == [NONE] * 5 + [HOLD, HOLD] + [NONE] * 9
    assert (steps["action"][5:7] == 0).all()
    assert (steps["action"][7:] != 0).all()
    assert np.isnan(steps["plan_value"][5:7]).all()
    assert (pilot.num_calls, result.outcome) == (14, Outcome.FAILURE)
    assert (result.summary.num_repeats, result.summary.num_fallbacks) == (4, 2)


def test_a_late_tick_after_a_hold_does_not_get_a_plan_from_before_it(bench: Bench) -> None:
    bench.clock = StallingClock(dict.fromkeys(range(7, 9), 70.0))
    pilot = PlannedPilot(bench.clock, [60.0] * 16)
    blind(bench, range(4, 8), CameraTrouble.FREEZE, pilot)
    fallbacks = bench.trial().steps["fallback"].tolist()
    assert SHIFTED not in fallbacks
    assert fallbacks[5:8] == [HOLD, HOLD, NONE]


@pytest.mark.parametrize(
    ("trouble", "code", "num_steps"),
    [
        (CameraTrouble.FREEZE, "camera_stale", 12),
        (CameraTrouble.RESTAMP, "camera_stale", 12),
        (CameraTrouble.GO_BACK, "camera_stale", 12),
        (CameraTrouble.COUNT_ANEW, "camera_stale", 12),
        (CameraTrouble.RUN_AHEAD, "camera_clock", 2),
        (CameraTrouble.UNPLUG, "camera_gone", 2),
    ],
)
def test_a_camera_that_stays_in_trouble_aborts_the_trial_and_latches(
    bench: Bench, trouble: CameraTrouble, code: str, num_steps: int
) -> None:
    result = blind(bench, range(4, 99), trouble, PlannedPilot(bench.clock))
    trial = bench.trial()
    assert result.fault is not None
    assert result.fault.code == code
    assert code in trial.abort_reason
    assert (result.outcome, trial.outcome) == (Outcome.ABORTED, Outcome.ABORTED)
    assert bench.env.fault is not None
    assert bench.env.fault.code == code
    assert bench.ring is not None
    assert bench.ring.control.fault.startswith(code)
    with pytest.raises(RobotFault):
        bench.env.hold()
    # Read k is the observation of step k - 1; the frame of read 3 is the last good one.
    assert trial.num_steps == num_steps
    ages_ns = trial.steps["t_scheduled_ns"] - trial.steps["t_observed_ns"]
    moved = trial.steps["fallback"] == NONE
    assert (ages_ns[moved] <= 200 * MS).all(), "nothing is planned from an old frame"


def test_a_request_to_stop_ends_the_trial_between_two_steps(bench: Bench) -> None:
    pilot = PlannedPilot(bench.clock)
    bench.is_stopping = lambda: pilot.num_calls == 4
    result = bench.run(pilot)
    trial = bench.trial()
    assert (trial.outcome, trial.abort_reason, trial.num_steps) == (Outcome.ABORTED, STOPPED, 4)
    assert result.fault is None


def test_the_garbage_collector_rests_during_the_trial(bench: Bench) -> None:
    generations: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    pilot = PlannedPilot(bench.clock)
    act, during = pilot.act, []

    def wasteful(observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        before = len(generations)
        for _ in range(3000):
            cycle: list[object] = []
            cycle.append(cycle)
        during.append(len(generations) - before)
        return act(observation, is_eval=is_eval)

    pilot.act = wasteful  # type: ignore[method-assign]
    gc.callbacks.append(note)
    try:
        bench.run(pilot)
    finally:
        gc.callbacks.remove(note)
    assert during == [0] * 8
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
