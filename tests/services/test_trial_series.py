"""Trials follow each other, no two alike, until there are enough, no room, a fault or a stop."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import numpy as np
import pytest

from protos.trial import Outcome, Trial
from robot.clock import SimulatedClock
from robot.fakes import make_counting_env
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_env
from services.actor_config import ActorConfig, ActorRun
from services.process import StopFlag
from services.ring_control import LoopState
from services.ring_memory import Ring, ring_folder
from services.trial_series import LoopFailed, TrialSeries
from tests.services import loop_site
from tests.services.loop_site import Site, StandIn

site = loop_site.site


def test_it_runs_as_many_trials_as_asked(site: Site) -> None:
    site.loop().run()
    trials = site.recorder.finish()
    assert [t.outcome for t in trials] == [Outcome.FAILURE] * 3
    assert len({t.provenance.seed for t in trials}) == 3
    assert len({t.trial_id for t in trials}) == 3
    for trial in trials:
        np.testing.assert_array_equal(trial.observations["state"][:, 0], np.arange(7))
    assert site.ring.control.loop_state == LoopState.DONE


def test_its_heart_beats_before_it_says_that_it_is_in_a_trial(site: Site) -> None:
    reset, control, ages_ns = site.env.reset, site.ring.control, []

    def watched_reset(seed: int, position_index: int | None = None) -> object:
        assert control.loop_state == LoopState.IN_TRIAL
        ages_ns.append(time.monotonic_ns() - control.loop_heartbeat_ns)
        control.loop_heartbeat_ns = 1
        return reset(seed, position_index)

    site.env.reset = watched_reset  # type: ignore[method-assign]
    site.loop().run()
    assert len(ages_ns) == 3
    assert max(ages_ns) < 20e9


def test_a_second_loop_goes_on_where_the_first_one_ended(site: Site) -> None:
    site.loop(trials=2).run()
    site.loop(trials=5).run()
    trials = site.recorder.finish()
    assert len(trials) == 5
    assert len({t.provenance.seed for t in trials}) == 5


def test_the_same_seed_runs_the_same_trials(tmp_path: Path) -> None:
    runs = []
    for name in "ab":
        site = Site(tmp_path / name)
        site.recorder.start()
        site.loop(seed=4).run()
        runs.append(site.recorder.finish())
        site.ring.unlink()
    for one, two in zip(*runs, strict=True):
        assert one.provenance.seed == two.provenance.seed
        np.testing.assert_array_equal(one.steps["action"], two.steps["action"])


def run_trials(folder: Path, **changes: object) -> list[Trial]:
    site = Site(folder)
    site.recorder.start()
    try:
        site.loop(**changes).run()  # type: ignore[arg-type]
        return site.recorder.finish()
    finally:
        site.close()


def test_an_actor_that_is_started_again_goes_on_with_other_resets_and_other_noise(
    tmp_path: Path,
) -> None:
    first = run_trials(tmp_path, trials=3)
    again = run_trials(tmp_path, trials=3, num_trials_before=3)
    seeds = [t.provenance.seed for t in first + again]
    assert len(set(seeds)) == 6
    noise = [tuple(t.steps["action"].ravel().tolist()) for t in first + again]
    assert len(set(noise)) == 6
    # It is as if it had never stopped, and can be repeated from what is recorded.
    assert [t.provenance.seed for t in run_trials(tmp_path, trials=6)] == seeds


def test_a_loop_that_is_started_again_explores_anew(site: Site) -> None:
    site.loop(trials=1).run()
    site.loop(trials=2).run()
    first, second = site.recorder.finish()
    assert not np.array_equal(first.steps["action"], second.steps["action"])


def test_the_seed_of_a_recorded_trial_arranges_it_again() -> None:
    config = SimConfig(max_steps=2, image_size=16, render_size=32)
    env = make_sim_env(config, SimulatedClock())
    ring = Ring.create(
        ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}",
        env.spec,
        num_trials=2,
    )
    recorder = StandIn(ring)
    recorder.start()
    ring.control.recorder_heartbeat_ns = time.monotonic_ns()
    run = ActorRun(
        ring=ring.path,
        incarnation="i",
        software="test",
        parent_pid=1,
        num_trials_before=41,
        config=ActorConfig(sim=config, trials=2, policy="random"),
    )
    try:
        TrialSeries(run, ring, env, env.clock, None, StopFlag()).run()
        for trial in recorder.finish():
            seen = env.reset(trial.provenance.seed, trial.provenance.position_index).fields
            for name, recorded in trial.observations.items():
                np.testing.assert_array_equal(seen[name], recorded[0])
    finally:
        env.close()
        ring.unlink()


def test_an_evaluation_takes_the_fixed_positions_in_turn(site: Site) -> None:
    site.loop(source="eval", trials=20).run()
    trials = site.recorder.finish()
    assert [t.provenance.position_index for t in trials] == [*range(18), 0, 1]
    assert trials[0].provenance.seed == trials[18].provenance.seed
    assert not any(t.is_trainable for t in trials)


def test_a_fault_ends_the_loop_and_nothing_more_is_commanded(site: Site) -> None:
    env = make_counting_env(site.clock, max_steps=6, image_size=40, fault_at_command=8)
    with pytest.raises(LoopFailed, match="collision"):
        site.loop(env=env).run()
    assert site.ring.control.fault.startswith("collision")
    trials = site.recorder.finish()
    assert [t.outcome for t in trials] == [Outcome.FAILURE, Outcome.ABORTED]
    assert env.fault is not None


def test_trial_after_trial_aborted_ends_the_loop(site: Site) -> None:
    observe = site.env.observe

    def slow() -> object:
        site.clock.advance(250_000_000)
        return observe()

    site.env.observe = slow  # type: ignore[method-assign]
    with pytest.raises(LoopFailed, match="3 trials in a row"):
        site.loop(max_missed_in_a_row=2, max_aborted_in_a_row=3).run()
    assert [t.outcome for t in site.recorder.finish()] == [Outcome.ABORTED] * 3
    assert site.ring.control.fault == ""


def test_no_trial_begins_without_room(site: Site) -> None:
    site.recorder.reader.announce_room(has_room=False)
    loop = site.start(trials=1)
    site.wait_for(LoopState.WAITING_FOR_ROOM)
    assert site.ring.num_begun == 0
    site.recorder.reader.announce_room(has_room=True)
    loop.join()
    assert len(site.recorder.finish()) == 1


def test_no_trial_begins_before_a_recorder_has_worked(site: Site) -> None:
    site.recorder.finish()
    site.ring.control.recorder_heartbeat_ns = 0
    thread = site.start(trials=1)
    site.wait_for(LoopState.WAITING_FOR_ROOM)
    assert site.ring.num_begun == 0
    site.ring.control.recorder_heartbeat_ns = 1
    thread.join()
    assert site.ring.num_begun == 1


def test_without_a_recorder_it_fills_the_ring_and_then_waits(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        thread = site.start(trials=7)
        deadline = time.monotonic() + 30
        while site.ring.num_complete < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        site.wait_for(LoopState.WAITING_FOR_ROOM)
        assert site.ring.num_begun == 4
        site.recorder.start()
        thread.join()
        assert len(site.recorder.finish()) == 7
    finally:
        site.close()


def test_it_can_be_asked_to_stop_while_it_waits(site: Site) -> None:
    thread = site.start(policy="model")
    site.wait_for(LoopState.WAITING_FOR_WEIGHTS)
    site.stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert site.ring.control.loop_state == LoopState.STOPPED
    assert site.ring.num_begun == 0
