"""One trial on absolute deadlines: observe, score the step before, plan, command.

Nothing in here touches disk, network or a log; what happened goes into the ring.

Time. Tick k is due at start + k * period and never moves. Each tick takes an observation, plans,
and commands at once. A plan that is ready after the next deadline is still commanded at once, and
its step is marked `deadline_missed`; until then the arm holds the last target, which is bounded by
one action. The next observation is then taken at the first deadline after the command, so that
every action has had time to act before it is scored. A tick that comes so late that a plan of the
usual length would miss the deadline, though it would otherwise keep it, is not planned: it gets the
rest of the last plan (`shifted`), and once that is used up it holds, but never twice in a row: then
it plans, late or not. Too many misses in a row abort the trial: a planner that is always late
steers by what was.

Sight. Nothing is planned from an observation that the robot calls stale: the arm holds until a
camera shows something new. A fault of a camera, like any other, aborts the trial and latches, and
so does a decision that is not finite, however little it would have been trusted.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos.trial import FALLBACK_CODES, Fallback, Outcome, Provenance, step_fields
from robot.clock import Clock, Tick, Ticker
from robot.env import Applied, RobotEnv
from robot.interfaces import RobotFault
from robot.observation import Observation
from services.pilot import Pilot, fault_of
from services.ring import RingWriter
from services.ring_control import Control, LoopState
from services.trial_summary import TrialSummary

STOPPED = "stopped by request"
_NUM_PLANS_REMEMBERED = 9


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


@dataclass(frozen=True, kw_only=True)
class _Decided:
    action: np.ndarray
    planned_ns: int
    version: int
    value: float = float("nan")
    uncertainty: float = float("nan")
    fallback: Fallback = Fallback.NONE


class TrialRunner:
    """Runs trials on one robot, one at a time.

    Args:
        env: The robot.
        clock: Paces the trial; the one that `env` has.
        writer: Where records go.
        control: Where counts and the heartbeat go.
        limits: When to cut or withhold.
        should_stop: Asked between two steps; the trial is aborted when it says so.
    """

    def __init__(
        self,
        *,
        env: RobotEnv,
        clock: Clock,
        writer: RingWriter,
        control: Control,
        limits: TrialLimits,
        should_stop: Callable[[], bool],
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
        self._plan_ns: deque[int] = deque(maxlen=_NUM_PLANS_REMEMBERED)
        self._work_ns: deque[int] = deque(maxlen=_NUM_PLANS_REMEMBERED)
        self._has_held = False
        self._rest = np.zeros((0, env.spec.action_size), np.float32)
        self._summary = TrialSummary()
        self._is_success = False

    def run(self, order: TrialOrder, pilot: Pilot) -> TrialResult:
        """Resets the robot and runs one trial to its end, which is recorded once it has begun.

        The ring must have room for a trial. A fault of the robot stops the arm, aborts the trial
        and is returned, not raised.
        """
        self._summary, self._is_success = TrialSummary(), False
        has_begun, fault, reason = False, None, ""
        try:
            self._env.reset(order.provenance.seed, order.provenance.position_index)
            pilot.reset()
            with quiet_memory():
                self._ticker.start()
                tick, seen = self._observe()
                self._writer.begin(order.trial_id, order.provenance, seen.fields)
                has_begun = True
                reason = self._steps(order, pilot, tick, seen)
                self._env.rest()
        except RobotFault as raised:
            # Said before anything else: a loop killed from here on must not be started again.
            self._control.fault = str(raised)
            self._control.loop_state = LoopState.FAULT
            fault, reason = raised, f"robot fault {raised}"
            self._env.stop()
        outcome = Outcome.SUCCESS if self._is_success else Outcome.FAILURE
        if reason:
            outcome = Outcome.ABORTED
        if has_begun:
            self._writer.end(outcome, reason)
        return TrialResult(
            outcome=outcome,
            summary=self._summary,
            abort_reason=reason,
            fault=fault,
        )

    def _steps(self, order: TrialOrder, pilot: Pilot, tick: Tick, seen: Observation) -> str:
        """Runs the steps; returns why the trial was aborted, empty if it was not."""
        spec, self._rest, self._has_held = self._env.spec, self._rest[:0], False
        missed_in_a_row = 0
        for index in range(spec.max_steps):
            decided = self._decide(tick, seen, pilot, order)
            applied = self._env.apply(decided.action)
            is_missed = applied.t_commanded_ns - tick.scheduled_ns > self._period_ns
            self._control.num_missed += is_missed
            missed_in_a_row = missed_in_a_row + 1 if is_missed else 0

            next_tick, next_seen = self._observe(after_ns=applied.t_commanded_ns)
            reward, is_terminated = self._env.outcome_of(next_seen)
            is_truncated = index == spec.max_steps - 1 and not is_terminated
            self._is_success |= self._env.reward.is_success(reward)
            values: dict[str, Any] = {
                "action": decided.action,
                "action_executed": applied.executed,
                "reward": reward,
                "terminated": is_terminated,
                "truncated": is_truncated,
                "t_scheduled_ns": tick.scheduled_ns,
                "t_observed_ns": seen.t_observed_ns,
                "deadline_missed": is_missed,
            }
            self._record(values | _fate(decided, applied), next_seen)
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

    def _decide(self, tick: Tick, seen: Observation, pilot: Pilot, order: TrialOrder) -> _Decided:
        began_ns = self._clock.now_ns()
        if seen.is_stale:
            return self._hold(began_ns)
        if self._would_be_late(began_ns - tick.scheduled_ns):
            return self._fall_back(began_ns, order.provenance.weights_version)
        choice = pilot.act(seen.fields, is_eval=order.is_eval)
        planned_ns = self._clock.now_ns()
        if (fault := fault_of(choice)) is not None:
            raise self._env.latch(fault)
        self._plan_ns.append(planned_ns - began_ns)
        self._work_ns.append(planned_ns - tick.scheduled_ns - tick.late_ns)
        self._has_held = False
        self._rest = pilot.rest_of_plan()
        limit, uncertainty = self._limits.max_uncertainty, choice.uncertainty
        is_held = limit is not None and uncertainty is not None and uncertainty > limit
        return _Decided(
            action=np.zeros_like(choice.action) if is_held else _bounded(choice.action),
            planned_ns=planned_ns,
            version=order.provenance.weights_version,
            value=math.nan if choice.value is None else choice.value,
            uncertainty=math.nan if uncertainty is None else uncertainty,
            fallback=Fallback.HOLD if is_held else Fallback.NONE,
        )

    def _would_be_late(self, elapsed_ns: int) -> bool:
        """Whether a plan would miss this deadline only because the tick came late."""
        if not self._plan_ns or self._has_held:
            return False
        is_fast_enough = statistics.median(self._work_ns) <= self._period_ns
        return is_fast_enough and elapsed_ns + statistics.median(self._plan_ns) > self._period_ns

    def _fall_back(self, now_ns: int, version: int) -> _Decided:
        if not len(self._rest):
            return self._hold(now_ns)
        action, self._rest = _bounded(self._rest[0]), self._rest[1:]
        return _Decided(
            action=action, planned_ns=now_ns, version=version, fallback=Fallback.SHIFTED
        )

    def _hold(self, now_ns: int) -> _Decided:
        self._has_held = True
        still = np.zeros(self._env.spec.action_size, np.float32)
        return _Decided(action=still, planned_ns=now_ns, version=0, fallback=Fallback.HOLD)

    def _record(self, values: Mapping[str, Any], next_seen: Observation) -> None:
        columns = {n: np.asarray(values[n], dtype) for n, dtype in self._dtypes.items()}
        self._writer.step(columns, next_seen.fields)
        self._summary.add(columns)


def _bounded(action: np.ndarray) -> np.ndarray:
    """Clips to [-1, 1]. What is not finite goes to the gate as it is: it latches. [A]"""
    return np.clip(action, -1.0, 1.0) if np.isfinite(action).all() else action


def _fate(decided: _Decided, applied: Applied) -> dict[str, Any]:
    return {
        "t_planned_ns": decided.planned_ns,
        "t_commanded_ns": applied.t_commanded_ns,
        "plan_value": decided.value,
        "plan_uncertainty": decided.uncertainty,
        "weights_version": decided.version,
        "fallback": FALLBACK_CODES[decided.fallback],
        "clamped": applied.clamped,
    }


@contextmanager
def quiet_memory() -> Iterator[None]:
    """Keeps the garbage collector out of the way while a trial runs."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
