"""A person beside the pilot: what they want reaches the loop at once, and the data says so."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from protos.trial import FALLBACK_CODES, Fallback, Outcome, Trial
from robot.clock import SimulatedClock
from robot.fakes import make_counting_env
from services.overseer import (
    DEAF_NS,
    SILENT_NS,
    ControlOverseer,
    Nobody,
    Overseer,
    Verdict,
    Wish,
    pack_command,
    unpack_command,
)
from services.pilot import RandomChoice
from services.recording import TrialKeeper
from services.records import overruled
from services.ring import RingReader, RingWriter
from services.ring_control import PAGE_BYTES, Control, LoopState
from services.ring_memory import Ring, ring_folder
from services.spool import Spool, SpoolConfig
from services.trial_run import (
    DISCARDED,
    STEERED,
    UNJUDGED,
    TrialLimits,
    TrialResult,
    TrialRunner,
)
from tests.services.trial_bench import make_order

NONE, HOLD, OPERATOR = (
    FALLBACK_CODES[f] for f in (Fallback.NONE, Fallback.HOLD, Fallback.OPERATOR)
)
NUM_STEPS = 8


class CountingPilot:
    """Action k of a trial is k / 100."""

    def __init__(self) -> None:
        self.num_calls = self.num_resets = 0

    def reset(self) -> None:
        self.num_calls = 0
        self.num_resets += 1

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        self.num_calls += 1
        return RandomChoice(action=np.full(2, self.num_calls / 100, np.float32))

    def rest_of_plan(self) -> np.ndarray:
        return np.zeros((0, 2), np.float32)


class Script:
    """A person who wants `wishes[k]` at look k, and answers with `answer` when asked."""

    may_begin = True

    def __init__(self, wishes: Mapping[int, Wish], answer: Verdict = Verdict.AGREED) -> None:
        self.asked: list[bool] = []
        self.num_begun = 0
        self._wishes, self._answer, self._num_looks = wishes, answer, 0

    def begin(self) -> None:
        self.num_begun += 1

    def look(self) -> Wish:
        self._num_looks += 1
        return self._wishes.get(self._num_looks - 1, Wish())

    def ask(self, *, is_success: bool) -> Wish:
        self.asked.append(is_success)
        return Wish(verdict=self._answer)


class Bench:
    """A runner on a counting robot and simulated time, beside a person; its trial in a spool."""

    def __init__(self, spool: Spool) -> None:
        self.clock = SimulatedClock()
        self.pilot = CountingPilot()
        self.success_at: int | None = None
        self.should_stop: Callable[[], bool] = lambda: False
        self.ring: Ring | None = None
        self._spool = spool

    def run(self, person: Overseer, *, is_eval: bool = False) -> tuple[TrialResult, Trial]:
        env = make_counting_env(self.clock, max_steps=NUM_STEPS, success_at=self.success_at)
        path = ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}"
        self.ring = Ring.create(path, env.spec, num_trials=2)
        runner = TrialRunner(
            env=env,
            clock=self.clock,
            writer=RingWriter(self.ring),
            control=self.ring.control,
            limits=TrialLimits(),
            should_stop=self.should_stop,
            overseer=person,
        )
        order = dataclasses.replace(make_order(), is_eval=is_eval)
        result = runner.run(order, self.pilot)
        reader = RingReader(self.ring)
        while records := reader.poll(0):
            self._spool.add(records)
            reader.commit()
        (trial_id,) = self._spool.ready()
        return result, self._spool.load(trial_id)


@pytest.fixture
def bench(tmp_path: object) -> Iterator[Bench]:
    spool = Spool(SpoolConfig(root=tmp_path / "spool", reserve_bytes=0))  # type: ignore[operator]
    made = Bench(spool)
    yield made
    spool.close()
    if made.ring is not None:
        made.ring.unlink()


def command(value: float) -> Wish:
    return Wish(command=np.full(2, value, np.float32))


# Looks of a trial: one before each action, one after it.
def at_step(k: int, wish: Wish) -> dict[int, Wish]:
    return {2 * k: wish}


def after_step(k: int, wish: Wish) -> dict[int, Wish]:
    return {2 * k + 1: wish}


def test_steps_that_a_person_steers_are_theirs_and_say_so(bench: Bench) -> None:
    wishes = at_step(2, command(-0.5)) | at_step(3, command(2.0))
    result, trial = bench.run(Script(wishes))
    steps = trial.steps
    assert result.outcome is Outcome.FAILURE
    assert steps["fallback"].tolist() == [NONE] * 2 + [OPERATOR] * 2 + [NONE] * 4
    assert steps["weights_version"].tolist() == [3, 3, 0, 0, 3, 3, 3, 3]
    assert steps["action"][2:4, 0].tolist() == [-0.5, 1.0]  # kept within the bounds of any action
    np.testing.assert_array_equal(trial.observations["state"][:, 0], np.arange(NUM_STEPS + 1))


def test_a_pilot_that_gets_the_arm_back_starts_afresh_once(bench: Bench) -> None:
    _, trial = bench.run(Script(at_step(2, command(0.5)) | at_step(3, command(0.5))))
    assert bench.pilot.num_resets == 2
    assert trial.steps["action"][:, 0].tolist() == pytest.approx(
        [0.01, 0.02, 0.5, 0.5, 0.01, 0.02, 0.03, 0.04]
    )


def test_a_pause_is_one_step_that_holds_for_as_long_as_it_lasts(bench: Bench) -> None:
    paused = Wish(is_paused=True)
    # Looks of the pause itself come between.
    _, trial = bench.run(Script({2: paused, 3: paused, 4: paused, 5: paused}))
    assert trial.num_steps == NUM_STEPS
    assert trial.steps["fallback"].tolist() == [NONE, HOLD] + [NONE] * 6
    assert not trial.steps["action"][1].any()
    gaps = np.diff(trial.steps["t_scheduled_ns"]) / 1e8
    assert gaps.tolist() == [1, 5, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("verdict", "success_at", "outcome", "rewards"),
    [
        (Verdict.AGREED, None, Outcome.FAILURE, [0] * 8),
        (Verdict.AGREED, 3, Outcome.SUCCESS, [0, 0, 1, 1, 1, 1, 1, 1]),
        (Verdict.SUCCESS, None, Outcome.SUCCESS, [0] * 7 + [1]),
        (Verdict.SUCCESS, 3, Outcome.SUCCESS, [0, 0, 1, 1, 1, 1, 1, 1]),
        (Verdict.FAILURE, None, Outcome.FAILURE, [0] * 8),
        (Verdict.FAILURE, 3, Outcome.FAILURE, [0] * 8),
    ],
)
def test_a_verdict_after_the_trial_stands_above_the_reward_and_the_rewards_say_it_too(
    bench: Bench, verdict: Verdict, success_at: int | None, outcome: Outcome, rewards: list[float]
) -> None:
    bench.success_at = success_at
    person = Script({}, verdict)
    result, trial = bench.run(person)
    assert person.asked == [success_at is not None]
    assert (result.outcome, trial.outcome) == (outcome, outcome)
    assert trial.steps["reward"].tolist() == rewards
    assert trial.steps["truncated"].tolist() == [False] * 7 + [True]


@pytest.mark.parametrize("verdict", [Verdict.SUCCESS, Verdict.FAILURE])
@pytest.mark.parametrize("success_at", [None, 1])
def test_a_verdict_in_a_trial_ends_it_there(
    bench: Bench, verdict: Verdict, success_at: int | None
) -> None:
    bench.success_at = success_at
    person = Script(after_step(2, Wish(verdict=verdict)))
    result, trial = bench.run(person)
    assert person.asked == []
    is_success = verdict is Verdict.SUCCESS
    assert result.outcome is (Outcome.SUCCESS if is_success else Outcome.FAILURE)
    assert trial.num_steps == 3
    assert trial.steps["truncated"].tolist() == [False, False, True]
    assert trial.steps["reward"][-1] == float(is_success)
    assert bool((trial.steps["reward"] > 0).any()) is is_success
    assert trial.is_trainable


@pytest.mark.parametrize("is_in_trial", [True, False])
def test_a_discarded_trial_is_kept_as_aborted(bench: Bench, *, is_in_trial: bool) -> None:
    wishes = after_step(2, Wish(verdict=Verdict.DISCARD)) if is_in_trial else {}
    result, trial = bench.run(Script(wishes, Verdict.DISCARD))
    assert (result.outcome, result.abort_reason) == (Outcome.ABORTED, DISCARDED)
    assert not trial.is_trainable
    assert trial.num_steps == (3 if is_in_trial else NUM_STEPS)


def test_a_verdict_ends_a_pause(bench: Bench) -> None:
    paused = Wish(is_paused=True)
    judged = Wish(is_paused=True, verdict=Verdict.FAILURE)
    result, trial = bench.run(Script({2: paused, 3: paused, 4: judged, 5: judged}))
    assert result.outcome is Outcome.FAILURE
    assert trial.num_steps == 2


@pytest.mark.parametrize("is_eval", [True, False])
def test_an_evaluation_in_which_a_person_steered_does_not_count(
    bench: Bench, *, is_eval: bool
) -> None:
    bench.success_at = 3
    person = Script(at_step(1, command(0.5)))
    result, _ = bench.run(person, is_eval=is_eval)
    assert result.abort_reason == (STEERED if is_eval else "")
    assert result.outcome is (Outcome.ABORTED if is_eval else Outcome.SUCCESS)
    assert person.asked == ([] if is_eval else [True])


def test_a_trial_that_was_not_judged_before_a_stop_does_not_count(bench: Bench) -> None:
    person = Script({}, Verdict.NONE)
    bench.should_stop = lambda: len(person.asked) > 1
    bench.success_at = 2
    result, trial = bench.run(person)
    assert bench.ring is not None
    assert bench.ring.control.loop_state == LoopState.WAITING_FOR_VERDICT
    assert (result.outcome, result.abort_reason) == (Outcome.ABORTED, UNJUDGED)
    assert not trial.is_trainable


def test_a_trial_that_nobody_watches_counts_though_a_stop_came_with_its_end(bench: Bench) -> None:
    bench.success_at = NUM_STEPS - 1
    bench.should_stop = lambda: bench.pilot.num_calls == NUM_STEPS
    result, _ = bench.run(Nobody())
    assert result.outcome is Outcome.SUCCESS


def make_overseer() -> tuple[Control, ControlOverseer, list[int]]:
    control, now_ns = Control(np.zeros(PAGE_BYTES, np.uint8)), [1_000_000_000]
    return control, ControlOverseer(control, 2, lambda: now_ns[0]), now_ns


def test_a_command_that_is_not_renewed_becomes_a_hold_and_stays_the_person_s() -> None:
    control, overseer, now_ns = make_overseer()
    assert overseer.look().command is None
    control.operator_beat_ns = now_ns[0]
    control.operator_command = pack_command(np.array([1.0, -0.5], np.float32))
    now_ns[0] += SILENT_NS
    held = overseer.look().command
    assert held is not None
    assert held.tolist() == pytest.approx([1.0, -0.5], abs=1 / 254)
    now_ns[0] += 1
    silent = overseer.look().command
    assert silent is not None
    assert silent.tolist() == [0.0, 0.0]


def test_where_a_person_watches_the_arm_holds_while_nobody_reads_their_keys() -> None:
    control, overseer, now_ns = make_overseer()
    control.operator_beat_ns = now_ns[0]
    now_ns[0] += DEAF_NS
    assert overseer.look() == Wish()
    now_ns[0] += 1
    assert overseer.look() == Wish(is_paused=True)
    control.operator_beat_ns = now_ns[0]
    assert overseer.look() == Wish()


def test_a_word_about_another_trial_is_none_about_this_one() -> None:
    control, overseer, _ = make_overseer()
    assert not overseer.may_begin
    control.operator_go = 1
    assert overseer.may_begin
    overseer.begin()
    assert not overseer.may_begin
    control.set_operator_verdict(1, Verdict.SUCCESS)
    assert overseer.look().verdict is Verdict.SUCCESS
    overseer.begin()
    assert overseer.look().verdict is Verdict.NONE
    assert overseer.ask(is_success=True).verdict is Verdict.NONE
    assert control.trial_says == Verdict.SUCCESS


@pytest.mark.parametrize("size", range(1, 8))
def test_a_command_comes_out_of_one_word_as_it_went_in(size: int) -> None:
    action = np.linspace(-1.0, 1.0, size).astype(np.float32)
    there = unpack_command(pack_command(action), size)
    assert there is not None
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, action, atol=1 / 254 + 1e-6)
    zero = unpack_command(pack_command(np.zeros(size, np.float32)), size)
    assert zero is not None
    assert not zero.any()
    assert unpack_command(pack_command(None), size) is None


def test_more_axes_than_a_word_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 7"):
        ControlOverseer(Control(np.zeros(PAGE_BYTES, np.uint8)), 8)


def test_overruling_changes_only_what_has_to_change() -> None:
    rewards = np.array([0.0, 0.5, 1.0, 0.5], np.float32)
    assert overruled(rewards, Outcome.FAILURE).tolist() == [0.0, 0.5, 0.5, 0.5]
    assert overruled(rewards, Outcome.SUCCESS).tolist() == rewards.tolist()
    assert overruled(rewards[:2], Outcome.SUCCESS).tolist() == [0.0, 1.0]
    assert overruled(rewards[:0], Outcome.SUCCESS).tolist() == []
    assert rewards.tolist() == [0.0, 0.5, 1.0, 0.5]


@pytest.mark.parametrize(
    ("recorded", "left"),
    [
        ([0.0, 0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 0.5, 0.5]),
        ([0.0, 0.5, 1.0, 0.0, 1.0], [0.0, 0.5, 0.5, 0.0, 0.0]),
        ([1.0, 1.0, 0.0], [0.0, 0.0, 0.0]),
        ([], []),
    ],
)
def test_success_taken_back_leaves_what_was_earned_before_it(
    recorded: list[float], left: list[float]
) -> None:
    changed = overruled(np.array(recorded, np.float32), Outcome.FAILURE)
    assert (changed.tolist(), changed.dtype) == (left, np.float32)


def test_a_kept_trial_is_the_one_that_a_spool_would_have(bench: Bench) -> None:
    bench.success_at = 3
    _, spooled = bench.run(Script({}, Verdict.FAILURE))
    keeper, order = TrialKeeper(spooled.spec), make_order()
    assert keeper.take() is None
    seen = [
        {n: a[t] for n, a in spooled.observations.items()} for t in range(spooled.num_steps + 1)
    ]
    keeper.begin(order.trial_id, order.provenance, seen[0])
    rewards = overruled(np.ones(spooled.num_steps, np.float32), Outcome.FAILURE)
    for t in range(spooled.num_steps):
        columns = {n: a[t] for n, a in spooled.steps.items()}
        keeper.step(columns | {"reward": np.float32(1.0)}, seen[t + 1])
    keeper.end(Outcome.FAILURE, is_overruled=True)
    kept = keeper.take()
    assert kept is not None
    assert kept.provenance == order.provenance
    np.testing.assert_array_equal(kept.steps["reward"], rewards)
    for name, column in spooled.columns().items():
        np.testing.assert_array_equal(kept.columns()[name], column)
    assert keeper.take() is None
