"""What is commanded at one tick: a person's action, a plan, the rest of the last one, or nothing.

Nothing is decided from an observation that the robot calls stale: the arm holds until a camera
shows something new. A plan that is not there in time is not waited for: its tick gets the rest of
the last plan (`shifted`), and once that is used up the arm holds. The late plan goes on; when it is
there, what it says of the ticks to come is the rest of the last plan. A tick that comes so late
that a plan of the usual length would miss the deadline, though it would otherwise keep it, is not
planned at all, but never after a hold: then it is, late or not. A plan that is too uncertain is
withheld, and its rest with it. A person who has taken over is asked instead of the pilot; a pilot
that gets the arm back starts afresh.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos.trial import FALLBACK_CODES, Fallback
from robot.clock import Clock, Tick
from robot.env import Applied, RobotEnv
from robot.observation import Observation
from services.overseer import Wish
from services.pilot import Choice, Pilot, fault_of
from services.planning import PLANNING_SHARE, Planned, Planning, PlanningStuck, Question

_NUM_PLANS_REMEMBERED = 9
STUCK_NS = 10_000_000_000
"""A plan that has not ended so long after its trial never will."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One action, and where it comes from."""

    action: np.ndarray
    """float32, normalised to [-1, 1]. [A]"""
    planned_ns: int
    """When it was known, monotonic."""
    version: int
    """Weights that planned it; 0 for none."""
    value: float = math.nan
    uncertainty: float = math.nan
    fallback: Fallback = Fallback.NONE
    is_plan_late: bool = False
    """A plan was asked for and was not there in time."""
    is_planned: bool = False
    """A plan was there in time, though it may have been withheld."""

    def fate(self, applied: Applied) -> dict[str, Any]:
        """Returns the columns of its step that tell of it and of what the robot made of it."""
        return {
            "action": self.action,
            "action_executed": applied.executed,
            "t_planned_ns": self.planned_ns,
            "t_commanded_ns": applied.t_commanded_ns,
            "plan_value": self.value,
            "plan_uncertainty": self.uncertainty,
            "weights_version": self.version,
            "fallback": FALLBACK_CODES[self.fallback],
            "clamped": applied.clamped,
        }


class Decider:
    """Decides tick by tick, one trial at a time.

    Args:
        env: Latches what must not be commanded.
        clock: The one that `env` has.
        planning: Asks the pilot.
        max_uncertainty: A planned action less certain than this is withheld; None to trust all.
    """

    def __init__(
        self, env: RobotEnv, clock: Clock, planning: Planning, max_uncertainty: float | None
    ) -> None:
        self._env = env
        self._clock = clock
        self._planning = planning
        self._patience_ns = round(PLANNING_SHARE * env.period_ns)
        self._max_uncertainty = max_uncertainty
        self._plan_ns: deque[int] = deque(maxlen=_NUM_PLANS_REMEMBERED)
        self._work_ns: deque[int] = deque(maxlen=_NUM_PLANS_REMEMBERED)
        self._has_held = False
        self._no_rest = np.zeros((0, env.spec.action_size), np.float32)
        self._rest = self._no_rest
        self._asked: Tick | None = None
        """The tick whose plan is under way."""
        self._is_void = False
        """The plan under way is from before stale frames, a pause or a person: its rest is not
        executed."""
        self.longest_plan_ns = 0
        """Of this trial, also of those that were late; one that never ended does not count."""
        self._is_taken_over = False

    def begin(self) -> None:
        """Forgets the trial before, which `end` has ended."""
        assert self._asked is None, "the trial before has not ended"
        self._rest, self._has_held, self._is_taken_over = self._no_rest, False, False
        self.longest_plan_ns = 0

    def end(self) -> None:
        """Waits for a plan that is under way: until then nobody else may use the pilot.

        Raises:
            PlanningStuck: It does not end.
        """
        if self._asked is None:
            return
        self._asked = None
        if self._planning.wait(self._clock.now_ns() + STUCK_NS) is None:
            raise PlanningStuck(f"a plan does not end, {STUCK_NS / 1e9:g} s after its trial")

    def decide(
        self,
        tick: Tick,
        seen: Observation,
        pilot: Pilot,
        wish: Wish,
        *,
        version: int,
        is_eval: bool,
    ) -> Decided:
        """Decides on one action, in time for its deadline.

        Args:
            tick: When it is due.
            seen: What the robot sees.
            pilot: Decides where nobody else does.
            wish: What the person wants.
            version: Weights the pilot has.
            is_eval: Whether the pilot leaves its exploration noise out.

        Raises:
            RobotFault: The pilot's numbers are not finite; the robot is stopped and stays so.
        """
        if wish.command is not None:
            self._is_taken_over = True
        if seen.is_stale or wish.is_paused or wish.command is not None:
            # What was planned for an arm that was to move on does not fit one that did not.
            self._rest, self._is_void = self._no_rest, True
        if seen.is_stale or wish.is_paused:
            return self._hold()
        if wish.command is not None:
            return Decided(
                action=_bounded(wish.command),
                planned_ns=self._clock.now_ns(),
                version=0,
                fallback=Fallback.OPERATOR,
            )
        give_up_ns = tick.scheduled_ns + self._patience_ns
        if self._asked is not None and self._fetch(tick, give_up_ns) is None:
            return self._fall_back(version, is_plan_late=True)
        if self._is_taken_over:
            self._is_taken_over = False
            pilot.reset()
        if self._would_be_late(self._clock.now_ns() - tick.scheduled_ns):
            return self._fall_back(version)
        self._planning.begin(Question(pilot=pilot, fields=seen.fields, is_eval=is_eval))
        self._asked, self._is_void = tick, False
        planned = self._fetch(tick, give_up_ns)
        if planned is None:
            return self._fall_back(version, is_plan_late=True)
        self._has_held = False
        choice = planned.choice
        is_trusted = self._is_trusted(choice)
        return Decided(
            action=_bounded(choice.action) if is_trusted else np.zeros_like(choice.action),
            planned_ns=planned.ended_ns,
            is_planned=True,
            version=version,
            value=math.nan if choice.value is None else choice.value,
            uncertainty=math.nan if choice.uncertainty is None else choice.uncertainty,
            fallback=Fallback.NONE if is_trusted else Fallback.HOLD,
        )

    def _fetch(self, tick: Tick, give_up_ns: int) -> Planned | None:
        """Takes in the plan that was asked for, at this tick or before; None if it is not there."""
        asked = self._asked
        assert asked is not None, "no plan is under way"
        try:
            planned = self._planning.wait(give_up_ns)
        except Exception:
            self._asked = None
            raise
        if planned is None:
            return None
        self._asked = None
        self.longest_plan_ns = max(self.longest_plan_ns, planned.ended_ns - planned.began_ns)
        if (fault := fault_of(planned.choice)) is not None:
            raise self._env.latch(fault)
        self._plan_ns.append(planned.ended_ns - planned.began_ns)
        self._work_ns.append(planned.ended_ns - asked.scheduled_ns - asked.late_ns)
        # What follows an action that is not trusted is not trusted either.
        is_good = not self._is_void and self._is_trusted(planned.choice)
        num_past = max(0, tick.index - asked.index - 1)
        self._rest = planned.rest[num_past:] if is_good else self._no_rest
        return planned

    def _is_trusted(self, choice: Choice) -> bool:
        limit, uncertainty = self._max_uncertainty, choice.uncertainty
        return limit is None or uncertainty is None or uncertainty <= limit

    def _would_be_late(self, elapsed_ns: int) -> bool:
        """Whether a plan would miss this deadline only because it would begin late."""
        if not self._plan_ns or self._has_held:
            return False
        is_fast_enough = statistics.median(self._work_ns) <= self._patience_ns
        return is_fast_enough and elapsed_ns + statistics.median(self._plan_ns) > self._patience_ns

    def _fall_back(self, version: int, *, is_plan_late: bool = False) -> Decided:
        if not len(self._rest):
            return self._hold(is_plan_late=is_plan_late)
        action, self._rest = _bounded(self._rest[0]), self._rest[1:]
        return Decided(
            action=action,
            planned_ns=self._clock.now_ns(),
            version=version,
            fallback=Fallback.SHIFTED,
            is_plan_late=is_plan_late,
        )

    def _hold(self, *, is_plan_late: bool = False) -> Decided:
        self._has_held = True
        return Decided(
            action=np.zeros(self._env.spec.action_size, np.float32),
            planned_ns=self._clock.now_ns(),
            version=0,
            fallback=Fallback.HOLD,
            is_plan_late=is_plan_late,
        )


def _bounded(action: np.ndarray) -> np.ndarray:
    """Clips to [-1, 1]. What is not finite goes to the gate as it is: it latches. [A]"""
    return np.clip(action, -1.0, 1.0) if np.isfinite(action).all() else action
