"""What the guard checks: the targets of a loop, and what the arm says of itself."""

from __future__ import annotations

import math

from robot.clock import Clock
from robot.guard_limits import GuardLimits
from robot.guard_motion import Rest, ToolMotion
from robot.guard_path import PathAllowance, Place, clipped
from robot.interfaces import Arm, ArmState, RobotFault, StartPose, ToolTarget

# Rounding that a target may have and still keep a limit.
_TOLERANCE = 1e-6
_SILENT_NS = 250_000_000
LOOP_GONE_S = 1.0  # silence that latches while the arm moves
HOLD_PERIODS = 2.1
"""Silence between targets, in periods of the loop, after which the arm holds: one that comes a
period late is no silence yet. It rests within two periods and 50 ms."""
RESET_HOLD_PERIODS = 1.6
"""The same on the way to a start, where the loop says twice a period that it waits."""
_OLD_PERIODS = 2
# What the loop sent longer ago is no sign of life.
_LATE_PERIODS = 0.75
# So long after the loop's last target the arm is not led on toward it but to its very end: it slows
# down by itself where it was sent, and is slow by the time it is held.
_AHEAD_NS = 10_000_000
# So much path may come at once, as after a while in which this process did not run.
_SAVED_S = 1.0
_STILL_M_S = 0.005
_NEAR_M = 1.5e-3
_NEAR_OPENING = 0.05


class TargetCheck:
    """Checks the row of targets that a loop sends.

    Args:
        limits: What must hold.
    """

    def __init__(self, limits: GuardLimits) -> None:
        self._limits = limits
        self._last: Place | None = None
        self._allowance = self._full()

    def start(self, place: Place) -> None:
        """Takes `place` for the target before the first."""
        self._last = place
        self._allowance = self._full()

    def check(self, target: ToolTarget, t_ns: int) -> ToolTarget:
        """Returns the target without its rounding errors; it is the last one from now on.

        Args:
            target: What came.
            t_ns: Now.

        Raises:
            RobotFault: It breaks a limit.
        """
        check_finite(target)
        place, opening = target.position_m, target.gripper_opening
        is_open = -_TOLERANCE <= opening <= 1.0 + _TOLERANCE
        if not (self._limits.contains(place, _TOLERANCE) and is_open):
            raise RobotFault(
                "target_outside_box", f"the loop sent {in_words(place)} m, opening {opening:.3f}"
            )
        if self._last is not None:
            step_m = math.dist(place, self._last)
            if step_m > self._limits.max_step_m + _TOLERANCE:
                raise RobotFault(
                    "step_too_long",
                    f"the loop went {step_m:.4f} m at once, {self._limits.max_step_m:g} is allowed",
                )
            if step_m > self._allowance.at(t_ns) + _TOLERANCE:
                raise RobotFault(
                    "too_fast",
                    f"the loop's targets go faster than {self._limits.max_speed_m_s:g} m/s",
                )
            self._allowance.spend(step_m)
        self._last = place
        return ToolTarget(
            position_m=clipped(place, self._limits.box_low_m, self._limits.box_high_m),
            gripper_opening=min(max(opening, 0.0), 1.0),
        )

    def _full(self) -> PathAllowance:
        speed_m_s = self._limits.max_speed_m_s
        return PathAllowance(speed_m_s, speed_m_s * _SAVED_S)


class LoopWatch:
    """Knows how long the loop has been silent."""

    def __init__(self) -> None:
        self.period_ns = 0
        """Time between two signs of life."""
        self._heard_ns = 0

    def heard(self, t_ns: int, now_ns: int) -> bool:
        """Takes what the loop sent at `t_ns`; False if that is old, and no sign of life."""
        is_new = -_AHEAD_NS <= now_ns - t_ns <= _OLD_PERIODS * self.period_ns
        if is_new:
            self._heard_ns = now_ns
        return is_new

    def is_silent(self, now_ns: int, periods: float = HOLD_PERIODS) -> bool:
        """Whether it has been silent for so many periods; RobotFault if it is gone."""
        silent_ns = now_ns - self._heard_ns
        if silent_ns > LOOP_GONE_S * 1e9:
            raise RobotFault("loop_gone", f"the loop has sent nothing for {silent_ns / 1e9:.2f} s")
        return silent_ns >= periods * self.period_ns

    def is_late(self, now_ns: int) -> bool:
        """Whether its next target should be here soon, so that the arm is to slow down."""
        return now_ns - self._heard_ns > _LATE_PERIODS * self.period_ns

    @property
    def hold_ns(self) -> int:
        """When it will have been silent for so long that the arm holds in a trial."""
        return self._heard_ns + round(HOLD_PERIODS * self.period_ns)


class ArmWatch:
    """Looks at an arm: how it is, how fast it goes, whether it does as it was told.

    Args:
        arm: Connected before the first look.
        limits: What must hold.
        clock: The clock of its time stamps.
    """

    def __init__(self, arm: Arm, limits: GuardLimits, clock: Clock) -> None:
        self._arm, self._limits, self._clock = arm, limits, clock
        self._motion, self._rest = self._start_motion(), Rest()
        self.state: ArmState | None = None
        """The newest state; None before the first look."""

    def look(self) -> ArmState:
        """Returns the newest state.

        Raises:
            RobotFault: The arm has a fault, says nothing new, or says what is no number.
        """
        state = self._arm.state()
        numbers = (*state.position_m, *state.rotation_rad, state.gripper_opening)
        if not all(math.isfinite(number) for number in numbers):
            raise RobotFault("state_not_finite", f"the arm reports {list(numbers)}")
        self._motion.take(state)
        self._rest.take(state)
        self.state = state
        if (fault := self._arm.fault) is not None:
            raise fault.again()
        if (age_ns := self._clock.now_ns() - state.t_ns) > _SILENT_NS:
            raise RobotFault("arm_silent", f"the arm's newest state is {age_ns / 1e9:.3f} s old")
        return state

    def forget(self) -> None:
        """Takes the next state for the first one."""
        self.state, self._motion, self._rest = None, self._start_motion(), Rest()

    def _start_motion(self) -> ToolMotion:
        return ToolMotion(self._limits.max_speed_m_s, self._limits.max_acceleration_m_s2)

    def check_pose(self) -> None:
        """Checks that the tool is in the box and points down, as it does in a trial.

        Raises:
            RobotFault: It is outside, or tilted.
        """
        assert self.state is not None
        place = self.state.position_m
        if not self._limits.contains(place, self._limits.max_outside_m):
            raise RobotFault("outside_box", f"the tool is at {in_words(place)} m")
        self.check_points_down()

    def check_points_down(self) -> None:
        """Checks that the tool points straight down; RobotFault if it is tilted."""
        assert self.state is not None
        roll, pitch, _ = self.state.rotation_rad
        tilt = math.acos(max(-1.0, min(1.0, -math.cos(roll) * math.cos(pitch))))
        if tilt > self._limits.max_tilt_rad:
            raise RobotFault(
                "tilted",
                f"the tool is {tilt:.3f} rad off straight down; stand it up by hand, in the "
                "vendor's program",
            )

    def check_follows(self, target: Place) -> None:
        """Checks that the arm is not far from where it was sent; RobotFault if it is."""
        assert self.state is not None
        place = self.state.position_m
        if (lag_m := math.dist(place, target)) > self._limits.max_lag_m:
            raise RobotFault("not_following", f"the tool is {lag_m:.3f} m from its target")

    @property
    def is_still(self) -> bool:
        """Whether the tool stands still."""
        return math.hypot(*self._motion.velocity_m_s) <= _STILL_M_S

    def stopping_place(self, deceleration_m_s2: float) -> tuple[Place, Place]:
        """Returns where the arm is, and where it comes to rest if it brakes now, this hard."""
        assert self.state is not None
        place = self._motion.stopping_place(deceleration_m_s2, self._clock.now_ns())
        return self.state.position_m, place

    def is_settled_at(self, goal: ToolTarget) -> bool:
        """Whether the arm rests at `goal`, as far as what the gripper holds lets it close."""
        state = self.state
        if state is None or math.dist(state.position_m, goal.position_m) > _NEAR_M:
            return False
        is_gripper_there = (
            abs(state.gripper_opening - goal.gripper_opening) <= _NEAR_OPENING
            or state.is_gripper_stuck
        )
        return is_gripper_there and self._rest.is_resting


def check_finite(target: ToolTarget) -> None:
    """Raises the RobotFault `target_not_finite` for a target that is not four numbers."""
    numbers = (*target.position_m, target.gripper_opening)
    if not all(math.isfinite(number) for number in numbers):
        raise RobotFault("target_not_finite", f"the loop sent {list(numbers)}")


def check_reset(limits: GuardLimits, pose: StartPose, here: Place) -> ToolTarget:
    """Returns where a reset from `here` to `pose` ends; RobotFault if it may not be made."""
    goal = ToolTarget(position_m=pose.position_m, gripper_opening=pose.gripper_opening)
    check_finite(goal)
    if not (limits.contains(goal.position_m) and 0 <= goal.gripper_opening <= 1):
        raise RobotFault("start_outside_box", f"start pose {pose} is outside the box")
    if not limits.contains(here, limits.reset_reach_m):
        raise RobotFault("too_far_to_reset", f"bring the tool nearer, from {in_words(here)} m")
    return goal


def in_words(place: Place) -> str:
    """Returns a place for a message, to the millimetre."""
    return f"({place[0]:.3f}, {place[1]:.3f}, {place[2]:.3f})"
