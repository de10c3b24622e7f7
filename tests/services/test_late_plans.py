"""What is commanded when a tick or a plan is late: the rest of the last plan, and then nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from protos.trial import Outcome
from robot.clock import MonotonicClock, SimulatedClock
from robot.fakes import make_counting_env
from robot.faulty_camera import CameraTrouble
from services.overseer import Nobody, Wish
from services.pilot import RandomChoice
from services.planning import Planned, PlanningStuck, PlanningThread, Question
from services.trial_run import TrialLimits
from tests.services.trial_bench import (
    HOLD,
    MS,
    NONE,
    OPERATOR,
    PERIOD_NS,
    SHIFTED,
    Bench,
    PlannedPilot,
    StallingClock,
)

PATIENCE_MS = 90.0


class LatePilot:
    """Its plan number k is k / 10 and then k / 10 + 0.01, + 0.02, + 0.03."""

    def __init__(self) -> None:
        self.num_plans = 0
        self.num_resets = 0
        self.is_busy = False
        self.uncertainty: Callable[[int], float] = lambda k: 0.1
        self.tell: Callable[[int], None] = lambda k: None

    def reset(self) -> None:
        assert not self.is_busy, "reset under a plan that is being made"
        self.num_resets += 1

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        del observation, is_eval
        k = self.num_plans
        self.num_plans += 1
        self.tell(k)
        return RandomChoice(action=np.full(2, k / 10, np.float32), uncertainty=self.uncertainty(k))

    def rest_of_plan(self) -> np.ndarray:
        rest = (self.num_plans - 1) / 10 + np.arange(1, 4) / 100
        return rest.astype(np.float32)[:, None].repeat(2, 1)


class PlanningBeside:
    """Plans beside the loop in simulated time: plan k is known `plan_ms[k]` after it began."""

    def __init__(self, clock: SimulatedClock, plan_ms: Mapping[int, float]) -> None:
        self._clock, self._plan_ms = clock, plan_ms
        self._num_begun = 0
        self._ready_ns = 0
        self._answer: Planned | None = None

    @property
    def is_busy(self) -> bool:
        return self._answer is not None

    def begin(self, question: Question) -> None:
        assert self._answer is None, "one at a time"
        began_ns = self._clock.now_ns()
        self._ready_ns = began_ns + round(self._plan_ms.get(self._num_begun, 0.0) * MS)
        self._num_begun += 1
        assert isinstance(question.pilot, LatePilot)
        self._pilot = question.pilot
        answer = question.answer(self._clock)
        self._answer = Planned(
            choice=answer.choice, rest=answer.rest, began_ns=began_ns, ended_ns=self._ready_ns
        )
        self._pilot.is_busy = True

    def wait(self, until_ns: int | None) -> Planned | None:
        until_ns = self._ready_ns if until_ns is None else until_ns
        self._clock.sleep_until_ns(min(until_ns, self._ready_ns))
        if until_ns < self._ready_ns:
            return None
        answer, self._answer = self._answer, None
        self._pilot.is_busy = False
        return answer

    def call(self, function: Callable[[], Any]) -> Any:
        return function()

    def close(self) -> None: ...


class Person(Nobody):
    """Steers at some steps."""

    def __init__(self, steers: range) -> None:
        self._steers, self._num_looks = steers, 0

    def look(self) -> Wish:
        step = self._num_looks // 2  # it looks before and after each step
        self._num_looks += 1
        return Wish(command=np.full(2, -0.5, np.float32)) if step in self._steers else Wish()


def run_late(
    bench: Bench, plan_ms: Mapping[int, float], pilot: LatePilot | None = None
) -> dict[str, np.ndarray]:
    """Runs a trial whose plans take so long, all others no time; returns its steps."""
    assert isinstance(bench.clock, SimulatedClock)
    bench.planning = PlanningBeside(bench.clock, plan_ms)
    bench.run(pilot or LatePilot())
    return bench.trial().steps


def actions(steps: Mapping[str, np.ndarray]) -> list[float]:
    return [round(float(a), 4) for a in steps["action"][:, 0]]


def test_a_late_tick_gets_the_rest_of_the_plan_and_then_holds_once(bench: Bench) -> None:
    bench.clock = StallingClock(dict.fromkeys((3, 4, 5, 6), 70.0))
    bench.env = make_counting_env(bench.clock, max_steps=8)
    result = bench.run(PlannedPilot(bench.clock, [60.0] * 8))
    steps = bench.trial().steps
    expected = [NONE] * 3 + [SHIFTED, SHIFTED, HOLD, NONE, NONE]
    assert steps["fallback"].tolist() == expected
    # The plan of step 2 was made by call 3: its rest starts at 3.1 and was cut to [-1, 1].
    assert steps["action"][3].tolist() == [1.0, 1.0]
    assert steps["action"][5].tolist() == [0.0, 0.0]
    assert steps["weights_version"].tolist() == [3, 3, 3, 3, 3, 0, 3, 3]
    assert np.isnan(steps["plan_value"][3:6]).all()
    # It never holds twice in a row: step 6 was late as well, and planned nevertheless.
    assert steps["deadline_missed"].tolist() == [False] * 6 + [True, False]
    assert (result.summary.num_missed, result.summary.num_fallbacks) == (1, 3)
    np.testing.assert_array_equal(bench.trial().observations["state"][:, 0], np.arange(9))


def test_a_planner_that_needs_almost_all_its_time_is_not_replaced_for_ever(
    bench: Bench,
) -> None:
    bench.clock = StallingClock(dict.fromkeys(range(2, 9), 20.0))
    bench.env = make_counting_env(bench.clock, max_steps=8)
    bench.run(PlannedPilot(bench.clock, [85.0] * 8))
    fallbacks = bench.trial().steps["fallback"].tolist()
    assert fallbacks[:2] == [NONE, NONE]
    assert fallbacks.count(NONE) >= 3
    assert HOLD in fallbacks


def test_a_plan_that_is_late_once_costs_one_tick_its_plan_and_no_tick_its_time(
    bench: Bench,
) -> None:
    steps = run_late(bench, {2: 130.0})
    assert actions(steps) == [0.0, 0.1, 0.11, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert steps["fallback"].tolist() == [NONE, NONE, SHIFTED] + [NONE] * 5
    assert steps["deadline_missed"].tolist() == [False, False, True] + [False] * 5
    np.testing.assert_array_equal(np.diff(steps["t_scheduled_ns"]), PERIOD_NS)
    after_ms = (steps["t_commanded_ns"] - steps["t_scheduled_ns"]) / MS
    assert after_ms.tolist() == [0, 0, PATIENCE_MS, 30, 0, 0, 0, 0]
    assert steps["weights_version"].tolist() == [3] * 8
    assert bench.ring is not None
    assert bench.ring.control.num_missed == 1


def test_while_a_plan_takes_periods_the_last_one_is_used_up_and_then_the_arm_holds(
    bench: Bench,
) -> None:
    steps = run_late(bench, {1: 530.0})
    assert actions(steps) == [0.0, 0.01, 0.02, 0.03, 0.0, 0.0, 0.2, 0.3]
    assert steps["fallback"].tolist() == [NONE] + [SHIFTED] * 3 + [HOLD] * 2 + [NONE] * 2
    assert steps["deadline_missed"].tolist() == [False] + [True] * 5 + [False] * 2
    np.testing.assert_array_equal(np.diff(steps["t_scheduled_ns"]), PERIOD_NS)


def test_a_late_plan_says_what_to_do_at_the_ticks_that_it_was_meant_for(bench: Bench) -> None:
    steps = run_late(bench, {2: 130.0, 3: 300.0})
    # Plan 3 began at tick 3 and is there at tick 6: the first two of its rest were for 4 and 5.
    # What is left of tick 6 is less than the median plan takes: it is not planned anew.
    assert actions(steps) == [0.0, 0.1, 0.11, 0.21, 0.22, 0.23, 0.33, 0.4]
    assert steps["fallback"].tolist() == [NONE] * 2 + [SHIFTED] * 5 + [NONE]


def test_a_planner_that_is_always_late_ends_the_trial(bench: Bench) -> None:
    bench.limits = TrialLimits(max_missed_in_a_row=4)
    steps = run_late(bench, dict.fromkeys(range(9), 150.0))
    trial = bench.trial()
    assert (trial.outcome, trial.num_steps) == (Outcome.ABORTED, 4)
    assert "4 deadlines missed in a row" in trial.abort_reason
    assert steps["fallback"].tolist() == [HOLD, SHIFTED, SHIFTED, SHIFTED]
    # Plan 1 was asked for at tick 1: for tick 3 it has what comes after its first two.
    assert actions(steps) == [0.0, 0.01, 0.02, 0.12]
    np.testing.assert_array_equal(np.diff(steps["t_scheduled_ns"]), PERIOD_NS)


def test_holds_for_stale_frames_do_not_make_a_planner_that_hangs_look_in_time(
    bench: Bench,
) -> None:
    frozen = [read for read in range(1, 41) if read % 8 >= 4]
    troubles = dict.fromkeys(frozen, CameraTrouble.FREEZE)
    bench.env = make_counting_env(bench.clock, max_steps=40, camera_troubles=troubles)
    steps = run_late(bench, {2: 9000.0})
    trial = bench.trial()
    assert trial.outcome is Outcome.ABORTED
    assert "10 deadlines missed in a row" in trial.abort_reason
    assert (steps["fallback"] == HOLD).sum() > 10, "there were other holds between them"


def test_a_late_plan_that_is_not_finite_latches(bench: Bench) -> None:
    pilot = LatePilot()
    pilot.uncertainty = lambda k: np.nan if k == 2 else 0.1
    steps = run_late(bench, {2: 130.0}, pilot)
    assert bench.env.fault is not None
    assert bench.env.fault.code == "plan_not_finite"
    assert (bench.trial().outcome, len(steps["action"])) == (Outcome.ABORTED, 3)


def test_the_rest_of_a_late_plan_that_is_not_trusted_is_not_executed(bench: Bench) -> None:
    bench.limits = TrialLimits(max_uncertainty=1.0)
    pilot = LatePilot()
    pilot.uncertainty = lambda k: 2.0 if k == 2 else 0.1
    steps = run_late(bench, {2: 130.0, 3: 90.0}, pilot)
    # At tick 3 there is only the rest of plan 2; tick 4 has what plan 3, then known, says of it.
    assert steps["fallback"][:5].tolist() == [NONE, NONE, SHIFTED, HOLD, NONE]


def test_a_plan_from_before_a_hold_is_not_executed_after_it(bench: Bench) -> None:
    troubles = dict.fromkeys(range(4, 8), CameraTrouble.FREEZE)  # read 0 is the reset's
    bench.env = make_counting_env(bench.clock, max_steps=12, camera_troubles=troubles)
    steps = run_late(bench, {4: 330.0, 5: 500.0})
    # Steps 5 and 6 hold: nothing new is seen. Plan 4 is there at tick 7, and its rest is void.
    assert steps["fallback"][:9].tolist() == [NONE] * 4 + [SHIFTED] + [HOLD] * 4
    assert actions(steps)[:9] == [0.0, 0.1, 0.2, 0.3, 0.31, 0.0, 0.0, 0.0, 0.0]
    assert steps["deadline_missed"][:9].tolist() == [False] * 4 + [True, False, False, True, True]


def test_a_person_is_heard_while_a_plan_is_late_and_the_pilot_starts_afresh(bench: Bench) -> None:
    bench.person = Person(range(3, 5))
    pilot = LatePilot()
    resets: list[int] = []
    pilot.tell = lambda k: resets.append(pilot.num_resets)
    steps = run_late(bench, {2: 430.0}, pilot)
    # Plan 2 is there at tick 6; what it says is from before the person, and so is plan 1.
    assert steps["fallback"].tolist() == (
        [NONE, NONE, SHIFTED, OPERATOR, OPERATOR, HOLD, NONE, NONE]
    )
    assert actions(steps) == [0.0, 0.1, 0.11, -0.5, -0.5, 0.0, 0.3, 0.4]
    assert resets == [1, 1, 1, 2, 2], "once per trial, and when it got the arm back"


def test_the_pilot_is_not_given_back_before_its_plan_is_there(bench: Bench) -> None:
    assert isinstance(bench.clock, SimulatedClock)
    planning = PlanningBeside(bench.clock, {2: 5000.0})
    bench.planning = planning
    pilot = LatePilot()
    bench.is_stopping = lambda: pilot.num_plans == 3
    bench.run(pilot)
    assert bench.trial().num_steps == 3
    assert not planning.is_busy
    assert bench.clock.now_ns() >= 5200 * MS


def test_a_plan_that_never_ends_ends_the_loop_after_its_trial_was_written(bench: Bench) -> None:
    assert isinstance(bench.clock, SimulatedClock)
    bench.planning = PlanningBeside(bench.clock, {2: 1e9})
    bench.limits = TrialLimits(max_missed_in_a_row=3)
    with pytest.raises(PlanningStuck, match="a plan does not end"):
        bench.run(LatePilot())
    assert bench.trial().outcome is Outcome.ABORTED
    assert bench.clock.now_ns() < 15_000 * MS


def test_how_long_the_longest_plan_took_is_told_also_if_it_was_late(bench: Bench) -> None:
    assert isinstance(bench.clock, SimulatedClock)
    bench.planning = PlanningBeside(bench.clock, {1: 40.0, 2: 130.0})
    result = bench.run(LatePilot())
    assert result.summary.longest_plan_ms == 130.0
    assert "longest_plan_ms=130.0" in str(result.summary)


class StuckPilot(LatePilot):
    """Its plan number `stuck_at` is not known before `released`."""

    def __init__(self, stuck_at: int) -> None:
        super().__init__()
        self.released = threading.Event()
        self.threads: set[str] = set()

        def tell(k: int) -> None:
            self.threads.add(threading.current_thread().name)
            if k == stuck_at:
                assert self.released.wait(60)

        self.tell = tell


@pytest.fixture
def thread() -> Iterator[PlanningThread]:
    made = PlanningThread(MonotonicClock())
    yield made
    made.close()
    assert "planning" not in [thread.name for thread in threading.enumerate()]


def test_a_loop_in_real_time_goes_on_while_a_plan_hangs(
    bench: Bench, thread: PlanningThread
) -> None:
    bench.clock = MonotonicClock()
    bench.env = make_counting_env(bench.clock, max_steps=12)
    bench.limits = TrialLimits(max_missed_in_a_row=12)
    bench.planning = thread
    pilot = StuckPilot(stuck_at=1)
    apply, tell, num_applied = bench.env.apply, pilot.tell, 0
    hung_at: list[int] = []

    def noting(k: int) -> None:
        if k == 1:
            hung_at.append(num_applied)
        tell(k)

    def counting(action: np.ndarray) -> Any:
        nonlocal num_applied
        num_applied += 1
        if hung_at and num_applied == min(hung_at[0] + 6, 12):
            pilot.released.set()
        return apply(action)

    pilot.tell = noting
    bench.env.apply = counting  # type: ignore[method-assign]
    bench.run(pilot)
    steps = bench.trial().steps
    assert pilot.threads == {"planning"}
    # However slow the machine is: nothing was planned while the plan hung.
    (begin,) = hung_at
    hung = slice(begin, begin + 6)
    assert NONE not in steps["fallback"][hung].tolist()
    assert steps["deadline_missed"][hung].all()
    assert HOLD in steps["fallback"][hung].tolist()
    np.testing.assert_array_equal(bench.trial().observations["state"][:, 0], np.arange(13))


def test_an_answer_is_waited_for_no_longer_than_asked_and_is_given_once(
    thread: PlanningThread,
) -> None:
    clock, pilot = MonotonicClock(), StuckPilot(stuck_at=0)
    thread.begin(Question(pilot=pilot, fields={}, is_eval=True))
    assert thread.wait(0) is None
    until_ns = clock.now_ns() + 5 * MS
    assert thread.wait(until_ns) is None
    released_ns = clock.now_ns()
    assert released_ns >= until_ns
    pilot.released.set()
    planned = thread.wait(None)
    assert planned is not None
    assert planned.choice.action.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(planned.rest[:, 0], [0.01, 0.02, 0.03])
    assert planned.began_ns <= planned.ended_ns <= clock.now_ns()
    assert released_ns <= planned.ended_ns
    assert thread.wait(0) is None


def test_what_the_pilot_raises_is_raised_where_its_answer_is_waited_for(
    bench: Bench, thread: PlanningThread
) -> None:
    def fail(k: int) -> None:
        if k == 1:
            raise ZeroDivisionError("no such plan")

    pilot = LatePilot()
    pilot.tell = fail
    bench.clock = MonotonicClock()
    bench.env = make_counting_env(bench.clock, max_steps=8)
    bench.planning = thread
    with pytest.raises(ZeroDivisionError, match="no such plan"):
        bench.run(pilot)
    thread.begin(Question(pilot=pilot, fields={}, is_eval=True))
    assert thread.wait(None) is not None, "the thread goes on"


def test_what_is_called_there_runs_in_the_thread_of_the_plans(thread: PlanningThread) -> None:
    assert thread.call(lambda: threading.current_thread().name) == "planning"
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)
