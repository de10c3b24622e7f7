"""The loop between trials: what it waits for, when weights change, and when it gives up."""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from learner.algorithms.registry import policy_config_to_json
from learner.weights import WeightsManifest
from protos.trial import Outcome, RobotSpec, Trial
from robot.clock import SimulatedClock
from robot.env import RobotEnv
from robot.fakes import make_counting_env
from robot.sim.config import SimConfig
from robot.sim.env import make_sim_env
from services.actor_config import ActorConfig, ActorRun
from services.process import StopFlag
from services.records import Record, StepRecord, WeightsMark
from services.ring import RingReader
from services.ring_control import LoopState
from services.ring_memory import Ring, ring_folder
from services.trial_series import LoopFailed, TrialSeries
from services.weights_slot import WeightsSlot
from tests.services.assembler import TrialAssembler
from tests.services.rig import wait_until
from tests.services.small_weights import CONFIG, publish, small_tensors


class StandIn(threading.Thread):
    """Does the recorder's part: takes trials out of the ring, and tells what a test asks for."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(daemon=True)
        self.trials: list[Trial] = []
        self.on_record: Callable[[Record], None] = lambda _record: None
        self.on_trial: Callable[[Trial], None] = lambda _trial: None
        self.reader = RingReader(ring)
        self._ring = ring
        self._end = threading.Event()

    def run(self) -> None:
        assembler = TrialAssembler()
        while not (self._end.is_set() and (self._ring.is_drained or self._ring.has_open_trial)):
            for record in self.reader.poll(0.005):
                self.on_record(record)
                if (trial := assembler.add(record)) is not None:
                    self.trials.append(trial)
                    self.on_trial(trial)
            self.reader.commit()

    def finish(self) -> list[Trial]:
        self._end.set()
        self.join()
        return self.trials


class Site:
    """A loop on a counting robot in simulated time, with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock()
        self.env = make_counting_env(self.clock, max_steps=6, image_size=40)
        self.config = ActorConfig(
            robot="counting",
            sim=SimConfig(max_steps=6, image_size=40),
            spool=folder,
            trials=3,
            policy="random",
            unreachable_s=0.1,
        )
        self.ring = Ring.create(
            ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}",
            self.env.spec,
            num_trials=4,
        )
        self.ring.control.recorder_heartbeat_ns = time.monotonic_ns()
        self.recorder = StandIn(self.ring)
        self.weights = folder / "weights"
        self.stop = StopFlag()
        self.running: list[threading.Thread] = []

    @property
    def spec(self) -> RobotSpec:
        return self.env.spec

    def loop(
        self, *, env: RobotEnv | None = None, num_trials_before: int = 0, **changes: object
    ) -> TrialSeries:
        config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
        run = ActorRun(
            ring=self.ring.path,
            incarnation="i",
            software="test",
            parent_pid=1,
            num_trials_before=num_trials_before,
            config=config,
        )
        slot = self.slot() if config.policy == "model" else None
        return TrialSeries(run, self.ring, env or self.env, self.clock, slot, self.stop)

    def start(self, **changes: object) -> threading.Thread:
        """Runs a loop on a thread of its own."""
        series = self.loop(**changes)  # type: ignore[arg-type]
        thread = threading.Thread(target=series.run)
        thread.start()
        self.running.append(thread)
        return thread

    def close(self) -> None:
        self.stop.set()
        for thread in self.running:
            thread.join()
        if self.recorder.is_alive():
            self.recorder.finish()
        self.ring.unlink()

    def slot(self) -> WeightsSlot:
        return WeightsSlot(self.weights, self.spec, device="cpu", seed=0, control=self.ring.control)

    def announce(self, ledger_seq: int = 0) -> WeightsMark:
        mark = mark_of(publish(self.weights, self.spec, ledger_seq=ledger_seq))
        self.recorder.reader.announce_weights(mark)
        return mark

    def replace_learner(self) -> None:
        """Removes the versions, as the recorder does when the learner is another one."""
        shutil.rmtree(self.weights)

    def wait_for(self, state: LoopState) -> None:
        deadline = time.monotonic() + 30
        while self.ring.control.loop_state != state:
            assert time.monotonic() < deadline, f"the loop never came to {state!r}"
            time.sleep(0.002)


def mark_of(manifest: WeightsManifest) -> WeightsMark:
    return WeightsMark.of(manifest.version, manifest.to_json())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.recorder.start()
    yield made
    made.close()


def versions(trial: Trial) -> set[int]:
    return set(trial.steps["weights_version"].tolist()) | {trial.provenance.weights_version}


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


def test_it_waits_for_the_first_weights_and_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    loop = site.start(policy="model", trials=1)
    site.wait_for(LoopState.WAITING_FOR_WEIGHTS)
    deadline = time.monotonic() + 30
    while "the first weights" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "the first weights" in caplog.text
    assert site.ring.num_begun == 0
    site.announce()
    loop.join()
    (trial,) = site.recorder.finish()
    assert versions(trial) == {1}
    assert len(trial.provenance.weights_digest) == 64
    assert np.isfinite(trial.steps["plan_value"]).all()
    assert site.ring.control.num_swaps == 1
    assert site.ring.control.last_swap_ns > 0


def test_weights_change_between_trials_only(site: Site) -> None:
    site.announce()

    def announce_in_the_middle(record: Record) -> None:
        if isinstance(record, StepRecord) and record.index == 2 and len(site.recorder.trials) == 1:
            site.announce()

    site.recorder.on_record = announce_in_the_middle
    site.loop(policy="model", trials=4, unreachable_s=60.0, wait_weights_s=0.0).run()
    seen = [versions(t) for t in site.recorder.finish()]
    assert seen[:2] == [{1}, {1}]
    assert seen[3] == {2}
    assert all(len(v) == 1 for v in seen)


def test_it_waits_for_weights_that_learned_from_the_last_trial(site: Site) -> None:
    site.announce()
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    timers: list[threading.Timer] = []

    def learn(trial: Trial) -> None:
        ledger_seq = 10 + len(site.recorder.trials)
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=ledger_seq)
        site.announce(ledger_seq - 1)  # not yet trained on it
        timers.append(threading.Timer(0.05, lambda: site.announce(ledger_seq)))
        timers[-1].start()

    site.recorder.on_trial = learn
    site.loop(policy="model", trials=4, unreachable_s=5.0).run()
    trials = site.recorder.finish()
    for timer in timers:
        timer.join()
    # Version 3 is the first one after trial 1 that learned from it, 5 after trial 2, and so on.
    assert [versions(t) for t in trials] == [{1}, {3}, {5}, {7}]


def test_it_does_not_wait_for_weights_that_will_never_come(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.announce(ledger_seq=3)
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    def settle(trial: Trial) -> None:
        """The learner holds the trial, finds nothing in it to train on, and says so."""
        number = len(site.recorder.trials)
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=10 + number)
        reader.announce_trained(version=1, ledger_seq=10 + number)

    site.recorder.on_trial = settle
    loop = site.start(policy="model", trials=3, unreachable_s=60.0, wait_weights_s=600.0)
    loop.join(timeout=60)
    assert not loop.is_alive()
    assert [versions(t) for t in site.recorder.finish()] == [{1}] * 3
    assert "event=weights_late" not in caplog.text


def test_it_does_not_wait_for_a_trainer_that_has_failed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.announce(ledger_seq=3)
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    def settle(trial: Trial) -> None:
        """The learner holds the trial, and has nobody who could train on it."""
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=11)
        reader.announce_trainer(has_failed=True)

    site.recorder.on_trial = settle
    loop = site.start(policy="model", trials=2, unreachable_s=60.0, wait_weights_s=600.0)
    loop.join(timeout=60)
    assert not loop.is_alive()
    assert [versions(t) for t in site.recorder.finish()] == [{1}] * 2
    assert "reason='the trainer has failed'" in caplog.text


@pytest.mark.parametrize("trained", [(1, 10), (2, 11)])
def test_it_waits_while_the_learner_may_still_have_better_weights(
    site: Site, trained: tuple[int, int]
) -> None:
    site.announce(ledger_seq=3)
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    def settle(trial: Trial) -> None:
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=11)
        version, ledger_seq = trained
        reader.announce_trained(version=version, ledger_seq=ledger_seq)

    site.recorder.on_trial = settle
    loop = site.start(policy="model", trials=2, unreachable_s=60.0, wait_weights_s=600.0)
    site.wait_for(LoopState.WAITING_FOR_WEIGHTS)
    wait_until(lambda: site.ring.control.acked == (1, 11))
    assert site.ring.num_begun == 1
    site.announce(ledger_seq=11)
    loop.join(timeout=60)
    assert [versions(t) for t in site.recorder.finish()] == [{1}, {2}]


def test_an_evaluation_keeps_its_weights_from_the_first_trial_to_the_last(site: Site) -> None:
    first = site.announce()
    site.recorder.on_trial = lambda _trial: site.announce() and None
    site.loop(policy="model", source="eval", trials=2).run()
    site.loop(policy="model", source="eval", trials=3).run()  # the loop died, and another goes on
    assert [versions(t) for t in site.recorder.finish()] == [{first.version}] * 3
    assert site.ring.control.num_refused == 0


@pytest.mark.parametrize("is_replaced", [True, False])
def test_an_evaluation_whose_weights_are_gone_is_not_continued_with_others(
    site: Site, *, is_replaced: bool
) -> None:
    site.announce()
    site.loop(policy="model", source="eval", trials=2).run()
    site.replace_learner()
    if is_replaced:  # the same number, other weights
        manifest = publish(site.weights, site.spec, tensors=small_tensors(site.spec, seed=1))
        site.recorder.reader.announce_weights(mark_of(manifest))
    with pytest.raises(LoopFailed, match="began with, version 1, cannot be used"):
        site.loop(policy="model", source="eval", trials=3).run()
    assert site.ring.control.loop_state == LoopState.FAULT, "it is not started again"
    assert len(site.recorder.finish()) == 2


@pytest.mark.parametrize("is_up", [True, False])
def test_it_goes_on_with_the_last_good_weights(site: Site, *, is_up: bool) -> None:
    site.announce()
    site.recorder.reader.announce_link(is_up=is_up)
    began = time.monotonic()
    wait_s = 0.05 if is_up else 60.0
    site.loop(policy="model", trials=3, wait_weights_s=wait_s).run()
    assert time.monotonic() - began < 20
    assert [versions(t) for t in site.recorder.finish()] == [{1}] * 3


def test_an_aborted_trial_is_not_waited_for(site: Site) -> None:
    site.announce()
    site.recorder.reader.announce_link(is_up=True)
    observe, num_observed = site.env.observe, 0

    def sometimes_slow() -> object:
        nonlocal num_observed
        num_observed += 1
        if num_observed <= 3:
            site.clock.advance(250_000_000)
        return observe()

    site.env.observe = sometimes_slow  # type: ignore[method-assign]
    began = time.monotonic()
    site.loop(policy="model", trials=1, max_missed_in_a_row=2).run()
    assert time.monotonic() - began < 20
    trials = site.recorder.finish()
    assert [t.outcome for t in trials] == [Outcome.ABORTED, Outcome.FAILURE]


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_weights_that_cannot_be_trusted_are_refused_and_the_last_good_ones_kept(
    site: Site,
) -> None:
    slot = site.slot()
    good = site.announce()
    assert slot.follow(good)
    policy, spec, root = slot.pilot, site.spec, site.weights
    action = _first_action(slot)

    tensors = small_tensors(spec, seed=1)
    name = max(tensors, key=lambda n: tensors[n].size)
    bad = [
        mark_of(publish(root, spec, spec_digest="0" * 64)),
        mark_of(publish(root, spec, policy_config='{"algorithm": "other"}')),
        mark_of(publish(root, spec, tensors=tensors | {name: tensors[name][:-1]})),
        mark_of(publish(root, spec, tensors={k: v for k, v in tensors.items() if k != name})),
        mark_of(publish(root, spec, tensors=tensors | {name: tensors[name].astype(np.float64)})),
        mark_of(
            publish(root, spec, tensors={k: np.full_like(v, 3e38) for k, v in tensors.items()})
        ),
        WeightsMark(99, 1),
        WeightsMark(good.version, good.tag ^ 1),
    ]
    for spoil in (lambda d: d[:-1], _flip, lambda _d: b"", lambda d: d[: len(d) // 2]):
        manifest = publish(root, spec)
        file = root / str(manifest.version) / "weights.safetensors"
        file.write_bytes(spoil(file.read_bytes()))
        bad.append(mark_of(manifest))
    for number, mark in enumerate(bad, start=1):
        assert not slot.follow(mark)
        assert not slot.follow(mark), "what was refused is not tried again"
        assert site.ring.control.num_refused == number
        assert site.ring.control.last_refused == mark.version
    assert (slot.mark, slot.pilot) == (good, policy)
    assert site.ring.control.used_weights == good
    np.testing.assert_array_equal(_first_action(slot), action)
    assert slot.follow(site.announce())


@pytest.mark.parametrize("num_before", [1, 3])
def test_weights_of_another_learner_are_used_also_under_a_lower_or_the_same_number(
    site: Site, num_before: int
) -> None:
    slot = site.slot()
    for _ in range(num_before):
        assert slot.follow(site.announce())
    site.replace_learner()
    tensors = small_tensors(site.spec, seed=1)
    manifest = publish(site.weights, site.spec, tensors=tensors, ledger_seq=4)
    assert manifest.version == 1
    assert slot.follow(mark_of(manifest))
    assert (slot.version, slot.digest, slot.ledger_seq) == (1, manifest.sha256, 4)
    assert site.ring.control.used_weights == mark_of(manifest)
    assert not slot.follow(mark_of(manifest))


def test_the_same_weights_that_are_to_be_planned_with_otherwise_are_taken_up(site: Site) -> None:
    slot = site.slot()
    assert slot.follow(site.announce())
    first = slot.pilot
    site.replace_learner()
    planner = dataclasses.replace(CONFIG.planner, iterations=1)
    config = policy_config_to_json(dataclasses.replace(CONFIG, planner=planner))
    manifest = publish(site.weights, site.spec, policy_config=config)
    assert (manifest.version, manifest.sha256) == (1, slot.digest)
    assert slot.follow(mark_of(manifest))
    assert slot.pilot is not first


def test_refused_weights_that_were_fetched_again_are_tried_again(site: Site) -> None:
    slot, mark = site.slot(), site.announce()
    folder = site.weights / str(mark.version)
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(_flip(data))
    assert not slot.follow(mark)
    manifest = (folder / "manifest.json").read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest)
    assert slot.follow(mark)


def _first_action(slot: WeightsSlot) -> np.ndarray:
    slot.pilot.reset()
    blank = {
        "image.front": np.zeros((40, 40, 3), np.uint8),
        "state": np.zeros(8, np.float32),
    }
    import torch

    torch.manual_seed(0)
    generator = slot.pilot._generator  # type: ignore[attr-defined]  # the noise must be the same
    generator.manual_seed(0)
    return slot.pilot.act(blank, is_eval=True).action


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
