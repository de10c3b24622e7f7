"""One trial on absolute deadlines: observe, score the step before, plan, command.

Nothing in here touches disk, network or a log; what happened goes into the ring.

Time. Tick k is due at start + k * period and never moves. Each tick takes an observation, plans,
and commands at once. What is commanded when tick or plan are late `services/deciding.py` tells; the
step of a late plan is marked `deadline_missed`, and so is one commanded after the next deadline:
until then the arm holds the last target, which is bounded by one action, and the next observation
is taken at the first deadline after the command. Too many misses in a row abort the trial: a
planner that is always late steers by what was.

Faults. One of a camera, like any other, aborts the trial and latches, and so does a decision that
is not finite, however little it would have been trusted.

People. A person may steer instead of the pilot, pause, and judge (`services/overseer.py`). A pause
is one step that holds for as long as it lasts. A judgement ends the trial and stands above the
reward; without one, the person is asked when the trial is over.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from protos.trial import Fallback, Outcome, Provenance, step_fields
from robot.clock import Clock, Tick, Ticker
from robot.env import RobotEnv
from robot.interfaces import SUCCESS, ResetAbandoned, RobotFault
from robot.observation import Observation
from services.deciding import Decider
from services.overseer import Nobody, Overseer, Verdict, Wish
from services.pilot import Pilot
from services.planning import Planning, PlanningAtOnce
from services.process import quiet_memory
from services.ring_control import Control, LoopState
from services.trial_summary import TrialSummary

STOPPED = "stopped by request"
DISCARDED = "discarded by a person"
UNJUDGED = "ended before a person judged it"
STEERED = "a person steered in an evaluation"
_LOOK_S = 0.01


@dataclass(frozen=True, kw_only=True)
class TrialLimits:
    """When a trial is cut, or an action withheld."""

    max_uncertainty: float | None = None
    """A planned action less certain than this is not executed, the arm holds; None to trust all."""
    max_missed_in_a_row: int = 10
    """So many missed deadlines without a kept one between abort the trial."""


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """A trial to be run."""

    trial_id: str
    provenance: Provenance
    is_eval: bool
    """Whether the pilot leaves its exploration noise out."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a trial ended."""

    outcome: Outcome
    summary: TrialSummary
    abort_reason: str = ""
    fault: RobotFault | None = None
    """The robot's latched fault, if one ended the trial."""


class TrialWriter(Protocol):
    """Takes a trial as it happens; never waits. `RingWriter` is one."""

    def begin(
        self, trial_id: str, provenance: Provenance, observation: Mapping[str, np.ndarray]
    ) -> object:
        """Takes what is known before the first step. {name: [*shape]}"""
        ...

    def step(
        self, columns: Mapping[str, np.ndarray], observation: Mapping[str, np.ndarray]
    ) -> None:
        """Takes one finished step and the observation it led to. {name: [*shape]}"""
        ...

    def end(self, outcome: Outcome, abort_reason: str = "", *, is_overruled: bool = False) -> None:
        """Ends the trial.

        Args:
            outcome: How it ended.
            abort_reason: Why it was aborted, if it was.
            is_overruled: Whether a person says `outcome`, other than the rewards taken so far:
                they are to be made to say it too (`services.records.overruled`).
        """
        ...


class TrialRunner:
    """Runs trials on one robot, one at a time.

    Args:
        env: The robot.
        clock: Paces the trial; the one that `env` has.
        writer: Where records go.
        control: Where counts and the heartbeat go.
        limits: When to cut or withhold.
        should_stop: Asked between two steps; the trial is aborted when it says so.
        planning: Asks the pilot; None to wait for each of its decisions.
        overseer: Asked what the person wants; None where nobody watches.
    """

    def __init__(
        self,
        *,
        env: RobotEnv,
        clock: Clock,
        writer: TrialWriter,
        control: Control,
        limits: TrialLimits,
        should_stop: Callable[[], bool],
        planning: Planning | None = None,
        overseer: Overseer | None = None,
    ) -> None:
        self._env = env
        self._clock = clock
        self._writer = writer
        self._control = control
        self._limits = limits
        self._should_stop = should_stop
        self._period_ns = round(1e9 / env.spec.control_hz)
        self._ticker = Ticker(clock, self._period_ns)
        self._dtypes = {f.name: np.dtype(f.dtype) for f in step_fields(env.spec)}
        self._floats = [f.name for f in env.spec.observations if f.dtype.startswith("float")]
        planning = planning or PlanningAtOnce(clock)
        self._decider = Decider(env, clock, planning, limits.max_uncertainty)
        self._overseer = overseer or Nobody()
        self._verdict, self._is_steered = Verdict.NONE, False
        self._summary = TrialSummary()
        self._is_success = False

    def run(self, order: TrialOrder, pilot: Pilot) -> TrialResult:
        """Resets the robot and runs one trial to its end, which is recorded once it has begun.

        The ring must have room for a trial. A fault of the robot stops the arm, aborts the trial
        and is returned, not raised.
        """
        self._summary, self._is_success, self._verdict = TrialSummary(), False, Verdict.NONE
        self._overseer.begin()
        has_begun, fault, reason = False, None, ""
        try:
            self._env.reset(order.provenance.seed, order.provenance.position_index)
            pilot.reset()
            with quiet_memory():
                self._ticker.start()
                tick, seen = self._observe()
                provenance = dataclasses.replace(order.provenance, cameras=self._env.camera_facts)
                self._writer.begin(order.trial_id, provenance, seen.fields)
                has_begun = True
                reason = self._steps(order, pilot, tick, seen)
                self._env.rest()
            reason = reason or self._judge(is_eval=order.is_eval)
        except ResetAbandoned:
            reason = STOPPED
        except RobotFault as raised:
            # Said before anything else: a loop killed from here on must not be started again.
            self._control.fault = str(raised)
            self._control.loop_state = LoopState.FAULT
            fault, reason = raised, f"robot fault {raised}"
            self._env.stop()
        outcome = Outcome.SUCCESS if self._is_success else Outcome.FAILURE
        is_overruled = self._verdict in _SAYS and (self._verdict is Verdict.SUCCESS) != (
            self._is_success
        )
        if is_overruled:
            outcome = _SAYS[self._verdict]
        if reason:
            outcome = Outcome.ABORTED
        if has_begun:
            self._writer.end(outcome, reason, is_overruled=is_overruled and not reason)
        self._summary.longest_plan_ms = self._decider.longest_plan_ns / 1e6
        self._decider.end()
        return TrialResult(
            outcome=outcome,
            summary=self._summary,
            abort_reason=reason,
            fault=fault,
        )

    def _steps(self, order: TrialOrder, pilot: Pilot, tick: Tick, seen: Observation) -> str:
        """Runs the steps; returns why the trial was aborted, empty if it was not."""
        spec, version = self._env.spec, order.provenance.weights_version
        self._decider.begin()
        self._is_steered = False
        missed_in_a_row = 0
        for index in range(spec.max_steps):
            wish = self._overseer.look()
            decided = self._decider.decide(
                tick, seen, pilot, wish, version=version, is_eval=order.is_eval
            )
            self._is_steered |= decided.fallback is Fallback.OPERATOR
            applied = self._env.apply(decided.action)
            is_missed = decided.is_plan_late
            is_missed |= applied.t_commanded_ns - tick.scheduled_ns > self._period_ns
            self._control.num_missed += is_missed
            # Only a plan in time shows that the planner can: no hold does, and no person.
            if is_missed or decided.is_planned:
                missed_in_a_row = missed_in_a_row + 1 if is_missed else 0

            next_tick, next_seen = self._observe(after_ns=applied.t_commanded_ns)
            while wish.is_paused and wish.verdict is Verdict.NONE and not self._should_stop():
                self._env.hold()
                next_tick, next_seen = self._observe()
                wish = self._overseer.look()
            reward, is_terminated = self._env.outcome_of(next_seen)
            self._verdict = self._overseer.look().verdict
            if self._verdict is Verdict.SUCCESS:
                reward = SUCCESS
            is_truncated = not is_terminated and (
                index == spec.max_steps - 1 or self._verdict in _SAYS
            )
            self._is_success |= self._env.reward.is_success(reward)
            values: dict[str, Any] = {
                "reward": reward,
                "terminated": is_terminated,
                "truncated": is_truncated,
                "t_scheduled_ns": tick.scheduled_ns,
                "t_observed_ns": seen.t_observed_ns,
                "deadline_missed": is_missed,
            }
            self._record(values | decided.fate(applied), next_seen)
            if self._verdict is Verdict.DISCARD:
                self._env.hold()
                return DISCARDED
            if is_terminated or is_truncated:
                return ""
            if missed_in_a_row >= self._limits.max_missed_in_a_row:
                self._env.hold()
                return f"{missed_in_a_row} deadlines missed in a row: the planner is too slow"
            if self._should_stop():
                self._env.hold()
                return STOPPED
            tick, seen = next_tick, next_seen
        raise AssertionError("a trial ends at its last step at the latest")

    def _observe(self, *, after_ns: int = -1) -> tuple[Tick, Observation]:
        """Waits for the first tick that is due at `after_ns` or later, and looks."""
        tick = self._ticker.wait()
        while tick.scheduled_ns < after_ns:
            tick = self._ticker.wait()
        self._control.num_ticks += 1
        self._control.loop_heartbeat_ns = time.monotonic_ns()
        seen = self._env.observe()
        for name in self._floats:
            if not np.isfinite(seen.fields[name]).all():
                raise self._env.latch(RobotFault("observation_not_finite", f"{name} is not finite"))
        return tick, seen

    def _judge(self, *, is_eval: bool) -> str:
        """Waits for the person's verdict; returns why the trial is aborted, empty if it is not.

        Asked to stop meanwhile, it does not count: the person might not have agreed with the
        reward. An evaluation that a person steered in says nothing of the weights.
        """
        if is_eval and self._is_steered:
            return STEERED
        wish = Wish(verdict=self._verdict)
        while wish.verdict is Verdict.NONE:
            wish = self._overseer.ask(is_success=self._is_success)
            if wish.verdict is Verdict.NONE:
                if self._should_stop():
                    return UNJUDGED
                self._control.loop_state = LoopState.WAITING_FOR_VERDICT
                self._control.loop_heartbeat_ns = time.monotonic_ns()
                time.sleep(_LOOK_S)
        self._verdict = wish.verdict
        return DISCARDED if wish.verdict is Verdict.DISCARD else ""

    def _record(self, values: Mapping[str, Any], next_seen: Observation) -> None:
        columns = {n: np.asarray(values[n], dtype) for n, dtype in self._dtypes.items()}
        self._writer.step(columns, next_seen.fields)
        self._summary.add(columns)


_SAYS = {Verdict.SUCCESS: Outcome.SUCCESS, Verdict.FAILURE: Outcome.FAILURE}
