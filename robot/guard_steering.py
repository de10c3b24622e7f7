"""How the guard moves its arm: along a bounded path toward a goal, one target a period."""

from __future__ import annotations

import math
from collections.abc import Callable

from robot.clock import Clock
from robot.guard_limits import GuardLimits
from robot.guard_path import PathLimiter, Place
from robot.interfaces import Arm, BrakingArm, ToolTarget

# An arm at rest this near to where it was sent is where it was sent.
_THERE_M = 2e-3
# After so many periods without a target the arm is slow, and the path begins at rest.
_PAUSE_PERIODS = 1.5


class Steering:
    """Sends an arm its targets. Whatever the arm raises passes through.

    Args:
        arm: Nobody else commands it.
        limits: Of the box, of speed and acceleration.
        clock: Dates what is sent.
    """

    def __init__(self, arm: Arm, limits: GuardLimits, clock: Clock) -> None:
        self._arm, self._limits, self._clock = arm, limits, clock
        self._goal = ToolTarget(
            position_m=limits.start.position_m, gripper_opening=limits.start.gripper_opening
        )
        self._sent_opening = math.nan
        self._sent_ns = 0
        self._is_news = False
        self._legs: list[Place] = []
        self.set_period(round(limits.max_period_s * 1e9))

    @property
    def place(self) -> Place:
        """Where the arm was sent last."""
        return self._path.place

    @property
    def goal(self) -> ToolTarget:
        """Where the path leads."""
        return self._goal

    @property
    def is_there(self) -> bool:
        """Whether the path has come to its goal; the arm itself may be behind."""
        return not self._legs and self._path.place == self._goal.position_m

    @property
    def braking_m_s2(self) -> float:
        """How hard `halt` brakes."""
        limits = self._limits
        is_hard = isinstance(self._arm, BrakingArm)
        return limits.hold_acceleration_m_s2 if is_hard else limits.max_acceleration_m_s2

    def set_period(self, period_ns: int) -> None:
        """Sets the time between two targets; `start` has to follow."""
        self._period_ns = period_ns
        self._path = PathLimiter(
            max_speed_m_s=self._limits.max_speed_m_s,
            max_acceleration_m_s2=self._limits.max_acceleration_m_s2,
            period_s=period_ns * 1e-9,
        )

    def start(self, place: Place, goal: ToolTarget, *, over: float | None) -> None:
        """Begins a slow path at rest; where it begins outside the box, it leads into it.

        Args:
            place: Where the arm is.
            goal: Inside the box.
            over: Height at which to cross over to it, unless that is lower than both; None to go
                straight.
        """
        low, high = self._limits.box_low_m, self._limits.box_high_m
        self._path.limit_speed(self._limits.reset_speed_m_s)
        self._path.start(place, _each(min, low, place), _each(max, high, place))
        self._sent_opening, self._sent_ns = math.nan, self._clock.now_ns() - self._period_ns
        self.aim(goal)
        if over is not None:
            height = max(over, place[2], goal.position_m[2])
            x, y, _ = goal.position_m
            self._legs = [(place[0], place[1], height), (x, y, height)]

    def stay_inside(self) -> None:
        """Makes the path one that rests where it is and never leaves the box, at full speed."""
        self._path.limit_speed(self._limits.max_speed_m_s)
        self._path.start(self._path.place, self._limits.box_low_m, self._limits.box_high_m)

    def aim(self, goal: ToolTarget) -> None:
        """Makes `goal`, inside the box, the one to go to."""
        self._goal, self._is_news, self._legs = goal, True, []

    def go_on(self, *, is_last: bool = False) -> None:
        """Sends the next target, if one is due: a period after the last, or half for a new goal.

        Args:
            is_last: Only if it is the last one, and so near that the arm is slowing down there.
        """
        if is_last and math.dist(self._path.place, self._goal.position_m) > self._path.slow_m:
            return
        now_ns, opening = self._clock.now_ns(), self._goal.gripper_opening
        if now_ns - self._sent_ns < self._period_ns // (2 if self._is_news else 1):
            return
        if now_ns - self._sent_ns > _PAUSE_PERIODS * self._period_ns:
            self._path.rest()
        self._is_news = False
        if self._legs and self._path.place == self._legs[0]:
            self._legs.pop(0)  # a corner is rounded by standing still at it for a period
            self._path.rest()
            self._sent_ns = now_ns
            return
        if self.is_there:
            self._path.rest()
            if self._sent_opening != opening:
                self._send(self._path.place)
        else:
            leg = self._legs[0] if self._legs else self._goal.position_m
            self._send(self._path.toward(leg, now_ns))

    def halt(self, place: Place, *, here: Place, is_still: bool) -> None:
        """Ends the path at `place` or sooner, unless the arm rests where it was sent already.

        A path that leads into the box from outside ends outside too, on its way.

        Args:
            place: Where the arm can come to rest with `braking_m_s2`.
            here: Where it is.
            is_still: Whether it stands still.
        """
        if _is_on_the_way(here, self._path.place, place):
            place = self._path.place
        if not is_still or math.dist(self._path.within(place), self._path.place) > _THERE_M:
            self._path.end_at(place)
            target = self._note_sent(self._path.place)
            if isinstance(self._arm, BrakingArm):
                self._arm.brake(target, self.braking_m_s2)
            else:
                self._arm.command(target)
        self._path.rest()

    def rest(self) -> None:
        """Takes the path for ended where it is."""
        self._path.rest()

    def _send(self, place: Place) -> None:
        self._arm.command(self._note_sent(place))

    def _note_sent(self, place: Place) -> ToolTarget:
        self._sent_ns, self._sent_opening = self._clock.now_ns(), self._goal.gripper_opening
        return ToolTarget(position_m=place, gripper_opening=self._sent_opening)


def _is_on_the_way(here: Place, between: Place, there: Place) -> bool:
    """Whether what is `between` lies ahead on the way from here to there, roughly."""
    way = [b - a for a, b in zip(here, there, strict=True)]
    part = [b - a for a, b in zip(here, between, strict=True)]
    along = sum(a * b for a, b in zip(way, part, strict=True))
    return along > 0 and math.hypot(*part) <= math.hypot(*way)


def _each(choose: Callable[[float, float], float], a: Place, b: Place) -> Place:
    return (choose(a[0], b[0]), choose(a[1], b[1]), choose(a[2], b[2]))
