"""What is commanded at one tick: a person's action, a plan, the rest of the last one, or nothing.

Nothing is decided from an observation that the robot calls stale: the arm holds until a camera
shows something new. A tick that comes so late that a plan of the usual length would miss the
deadline, though it would otherwise keep it, is not planned: it gets the rest of the last plan
(`shifted`), and once that is used up it holds, but never twice in a row: then it plans, late or
not. A plan that is too uncertain is withheld, and its rest with it. A person who has taken over is
asked instead of the pilot; a pilot that gets the arm back starts afresh.
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
from services.pilot import Pilot, fault_of

_NUM_PLANS_REMEMBERED = 9


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
        max_uncertainty: A planned action less certain than this is withheld; None to trust all.
    """

    def __init__(self, env: RobotEnv, clock: Clock, max_uncertainty: float | None) -> None:
        self._env = env
        self._clock = clock
        self._period_ns = env.period_ns
        self._max_uncertainty = max_uncertainty
        self._plan_ns: deque[int] = deque(maxlen=_NUM_PLANS_REMEMBERED)
        self._work_ns: deque[int] = deque(maxlen=_NUM_PLANS_REMEMBERED)
        self._has_held = False
        self._rest = np.zeros((0, env.spec.action_size), np.float32)
        self._is_taken_over = False

    def begin(self) -> None:
        """Forgets the trial before."""
        self._rest, self._has_held, self._is_taken_over = self._rest[:0], False, False

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
        """Decides on one action.

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
        began_ns = self._clock.now_ns()
        if wish.command is not None:
            self._is_taken_over = True
        if seen.is_stale or wish.is_paused:
            return self._hold(began_ns)
        if wish.command is not None:
            return Decided(
                action=_bounded(wish.command),
                planned_ns=began_ns,
                version=0,
                fallback=Fallback.OPERATOR,
            )
        if self._is_taken_over:
            self._is_taken_over, self._rest = False, self._rest[:0]
            pilot.reset()
        if self._would_be_late(began_ns - tick.scheduled_ns):
            return self._fall_back(began_ns, version)
        choice = pilot.act(seen.fields, is_eval=is_eval)
        planned_ns = self._clock.now_ns()
        if (fault := fault_of(choice)) is not None:
            raise self._env.latch(fault)
        self._plan_ns.append(planned_ns - began_ns)
        self._work_ns.append(planned_ns - tick.scheduled_ns - tick.late_ns)
        self._has_held = False
        limit, uncertainty = self._max_uncertainty, choice.uncertainty
        is_held = limit is not None and uncertainty is not None and uncertainty > limit
        # What follows an action that is not trusted is not trusted either.
        self._rest = self._rest[:0] if is_held else pilot.rest_of_plan()
        return Decided(
            action=np.zeros_like(choice.action) if is_held else _bounded(choice.action),
            planned_ns=planned_ns,
            version=version,
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

    def _fall_back(self, now_ns: int, version: int) -> Decided:
        if not len(self._rest):
            return self._hold(now_ns)
        action, self._rest = _bounded(self._rest[0]), self._rest[1:]
        return Decided(action=action, planned_ns=now_ns, version=version, fallback=Fallback.SHIFTED)

    def _hold(self, now_ns: int) -> Decided:
        self._has_held = True
        still = np.zeros(self._env.spec.action_size, np.float32)
        return Decided(action=still, planned_ns=now_ns, version=0, fallback=Fallback.HOLD)


def _bounded(action: np.ndarray) -> np.ndarray:
    """Clips to [-1, 1]. What is not finite goes to the gate as it is: it latches. [A]"""
    return np.clip(action, -1.0, 1.0) if np.isfinite(action).all() else action
