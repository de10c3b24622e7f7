"""The way of an arm to where a trial begins: led by its guard, as long as the loop waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable

from robot.guard_checks import RESET_HOLD_PERIODS, ArmWatch, LoopWatch, check_reset
from robot.guard_limits import GuardLimits
from robot.guard_steering import Steering
from robot.interfaces import RobotFault, StartPose, ToolTarget

_SETTLED_NS, _LONGEST_NS = 200_000_000, 30_000_000_000
_ABOVE_M = 2e-3


class ResetRun:
    """Leads an arm to a start, one way after the other.

    Args:
        limits: What must hold.
        steering: Moves the arm.
        watch: Looks at it.
        loop: Knows whether the loop is there.
        hold: Has the arm brake and stay.
    """

    def __init__(
        self,
        limits: GuardLimits,
        steering: Steering,
        watch: ArmWatch,
        loop: LoopWatch,
        hold: Callable[[], None],
    ) -> None:
        self._limits, self._steering, self._watch, self._loop = limits, steering, watch, loop
        self._hold = hold
        self._is_held = False
        self._settled_ns = self._until_ns = 0
        self.number = 0
        """Of the way that was begun last."""

    def begin(self, number: int, pose: StartPose, now_ns: int) -> None:
        """Sets out for `pose`; RobotFault if that may not be made from here."""
        here = self._watch.look().position_m
        goal = check_reset(self._limits, pose, here)
        # The first target would turn the tool where it is, next to whatever is there.
        self._watch.check_points_down()
        self.number, self._settled_ns, self._is_held = number, now_ns, False
        self._until_ns = now_ns + _LONGEST_NS
        self._loop.heard(now_ns, now_ns)
        self._set_out(goal)

    def go_on(self, now_ns: int) -> bool:
        """Leads the arm on, or holds it while the loop is silent; returns whether it has arrived.

        Raises:
            RobotFault: It takes too long, the loop is gone, or the tool is not as it must be there.
        """
        goal = self._steering.goal
        if now_ns > self._until_ns:
            raise RobotFault("reset_timeout", f"the arm does not come to rest at {goal}")
        was_held, self._is_held = self._is_held, self._loop.is_silent(now_ns, RESET_HOLD_PERIODS)
        if self._is_held:
            if not was_held:
                self._hold()
            return False
        if was_held:
            self._set_out(goal, is_again=True)
        self._steering.go_on()
        if not (self._steering.is_there and self._watch.is_settled_at(goal)):
            self._settled_ns = now_ns
        if now_ns - self._settled_ns < _SETTLED_NS:
            return False
        self._watch.check_pose()
        self._steering.stay_inside()
        return True

    def _set_out(self, goal: ToolTarget, *, is_again: bool = False) -> None:
        here = self._watch.look().position_m
        # Held on its way down it goes on down: an arm that is held often would never arrive.
        is_above = is_again and math.dist(here[:2], goal.position_m[:2]) <= _ABOVE_M
        over_m = None if is_above else self._limits.crossing_height_m
        self._steering.start(here, goal, over=over_m)
