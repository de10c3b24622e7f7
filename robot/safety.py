"""The gate every action passes on its way to the arm: box, step, speed, and a latched stop.

An action is a displacement of the *last commanded* target, not of the measured position: the arm's
lag therefore never eats into a move, and doing nothing holds the last target. Position axes move
the tool by `action_scale` metres for an action of 1; the axis named `gripper` changes the opening
by its scale, +1 opens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot.interfaces import ArmState, RobotFault, StartPose, ToolTarget

POSITION_AXES = ("x", "y", "z")
GRIPPER_AXIS = "gripper"
# An executed action that differs by less was not clamped: float32 resolution of a full step.
_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class SafetyLimits:
    """Where the tool may go and how fast. The defaults are the 30 cm cube in front of an xArm."""

    box_low_m: tuple[float, float, float] = (0.25, -0.15, 0.015)
    """Lowest allowed tool position, base frame."""
    box_high_m: tuple[float, float, float] = (0.55, 0.15, 0.315)
    """Highest allowed tool position, base frame."""
    max_step_m: float = 0.05
    """Longest displacement of the target by one action."""
    max_speed_m_s: float = 0.25
    """Greatest speed of the target along its path, also for a caller that sends actions too fast:
    each action may use what time has allowed since, by the arm's own time stamps."""
    max_lag_m: float = 0.15
    """The arm further than this from its target is a fault: it is blocked or not following."""
    max_outside_m: float = 0.03
    """The arm measured further than this outside the box is a fault."""

    def __post_init__(self) -> None:
        corners = (*self.box_low_m, *self.box_high_m)
        if len(corners) != 6 or not all(math.isfinite(c) for c in corners):
            raise ValueError("box_low_m and box_high_m must be three finite numbers each")
        if any(low >= high for low, high in zip(self.box_low_m, self.box_high_m, strict=True)):
            raise ValueError(f"box_low_m {self.box_low_m} is not below box_high_m")
        for name in ("max_step_m", "max_speed_m_s", "max_lag_m", "max_outside_m"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What an action became."""

    target: ToolTarget
    """Where to send the arm."""
    executed_action: np.ndarray
    """The action that leads to `target`, float32. [A]"""
    clamped: bool
    """Whether the motion differs from the one asked for. A gripper already fully open or closed
    is no clamp."""


class SafetyGate:
    """Turns actions into targets that keep every limit, or latches a fault.

    Args:
        limits: What must hold.
        action_names: One of x, y, z, gripper for each axis of an action, in order.
        action_scale: Metres, or gripper opening, that an action of 1 means. [A]
        period_s: Time one action has; with it a speed limit is a length of path.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        *,
        action_names: Sequence[str],
        action_scale: Sequence[float],
        period_s: float,
    ) -> None:
        unknown = set(action_names) - {*POSITION_AXES, GRIPPER_AXIS}
        if unknown or len(set(action_names)) != len(action_names):
            raise ValueError(f"action axes must be distinct, of x, y, z, gripper: {action_names}")
        if len(action_scale) != len(action_names) or not all(s > 0 for s in action_scale):
            raise ValueError(f"action_scale must be positive, one an axis: {action_scale}")
        if not period_s > 0:
            raise ValueError(f"period_s must be positive, got {period_s}")
        self.limits = limits
        self._axes = [(*POSITION_AXES, GRIPPER_AXIS).index(name) for name in action_names]
        self._counts_as_clamp = np.array([name != GRIPPER_AXIS for name in action_names])
        self._scale = np.asarray(action_scale, dtype=np.float64)
        self._low = np.array([*limits.box_low_m, 0.0])
        self._high = np.array([*limits.box_high_m, 1.0])
        self._max_move_m = min(limits.max_step_m, limits.max_speed_m_s * period_s)
        # Path the speed limit allows now. It grows with time up to one and a half periods' worth,
        # so that a tick a little early after one a little late is not clamped.
        self._max_allowance_m = 1.5 * limits.max_speed_m_s * period_s
        self._allowance_m = self._max_allowance_m
        self._checked_ns: int | None = None
        self._target: np.ndarray | None = None
        self._fault: RobotFault | None = None

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None."""
        return self._fault

    def start(self, pose: StartPose) -> None:
        """Makes `pose` the target that the first action displaces; RobotFault outside the box."""
        self._raise_if_latched()
        target = np.array([*pose.position_m, pose.gripper_opening], dtype=np.float64)
        inside = np.all(target >= self._low - _SAME) and np.all(target <= self._high + _SAME)
        if not inside:  # NaN lands here too
            raise self._latch("start_outside_box", f"start pose {pose} is outside the box")
        self._target = np.clip(target, self._low, self._high)
        self._allowance_m = self._max_allowance_m
        self._checked_ns = None

    def check(self, action: np.ndarray, state: ArmState) -> GateResult:
        """Returns the nearest target within the limits, along the direction asked for.

        Args:
            action: What the policy wants, normalised to [-1, 1]. [A]
            state: What the arm measures now.

        Raises:
            RobotFault: The action is not A finite numbers, the arm is not where it was sent, or
                an earlier fault is still latched.
        """
        self._raise_if_latched()
        if self._target is None:
            raise RuntimeError("call start() before check()")
        asked = np.asarray(action, dtype=np.float64)
        if asked.shape != (len(self._axes),):
            raise self._latch(
                "action_size", f"expected {len(self._axes)} numbers, got shape {asked.shape}"
            )
        if not np.isfinite(asked).all():
            raise self._latch("action_not_finite", f"got {asked.tolist()}")
        self._check_state(state)

        move = np.zeros(4)
        move[self._axes] = np.clip(asked, -1.0, 1.0) * self._scale
        longest_m = min(self._max_move_m, self._allowed_path_m(state.t_ns))
        length_m = float(np.linalg.norm(move[:3]))
        if length_m > longest_m:
            move[:3] *= longest_m / length_m
        target = np.clip(self._target + move, self._low, self._high)
        executed = ((target - self._target)[self._axes] / self._scale).astype(np.float32)
        self._allowance_m -= float(np.linalg.norm((target - self._target)[:3]))
        differs = np.abs(executed - asked) > _SAME
        differs &= self._counts_as_clamp
        self._target = target
        return GateResult(
            target=ToolTarget(
                position_m=(float(target[0]), float(target[1]), float(target[2])),
                gripper_opening=float(target[3]),
            ),
            executed_action=executed,
            clamped=bool(differs.any()),
        )

    def latch(self, fault: RobotFault) -> None:
        """Latches a fault that somebody else found; an earlier one stays instead."""
        self._fault = self._fault or fault.again()

    def reset_by_person(self) -> None:
        """Clears the latched fault; the next trial has to begin with `start`."""
        self._fault = None
        self._target = None

    def _allowed_path_m(self, t_ns: int) -> float:
        if self._checked_ns is not None:
            elapsed_s = max(t_ns - self._checked_ns, 0) * 1e-9
            self._allowance_m = min(
                self._allowance_m + self.limits.max_speed_m_s * elapsed_s, self._max_allowance_m
            )
        self._checked_ns = t_ns if self._checked_ns is None else max(t_ns, self._checked_ns)
        return max(self._allowance_m, 0.0)

    def _check_state(self, state: ArmState) -> None:
        assert self._target is not None
        measured = np.array([*state.position_m, *state.rotation_rad, state.gripper_opening])
        if not np.isfinite(measured).all():
            raise self._latch("state_not_finite", f"the arm reports {measured.tolist()}")
        position = measured[:3]
        outside_m = np.maximum(self._low[:3] - position, position - self._high[:3])
        if float(outside_m.max()) > self.limits.max_outside_m:
            raise self._latch("outside_box", f"the tool is at {position.round(3).tolist()} m")
        lag_m = float(np.linalg.norm(position - self._target[:3]))
        if lag_m > self.limits.max_lag_m:
            raise self._latch("not_following", f"the tool is {lag_m:.3f} m from its target")

    def _latch(self, code: str, message: str) -> RobotFault:
        self._fault = RobotFault(code, message)
        return self._fault

    def _raise_if_latched(self) -> None:
        if self._fault is not None:
            raise self._fault.again()
