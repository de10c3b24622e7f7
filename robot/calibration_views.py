"""Views to calibrate from: the arm carries the object over a grid, and the camera watches.

Only the interfaces of arm and camera are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from robot.camera_model import CalibrationError
from robot.clock import Clock
from robot.interfaces import (
    Arm,
    ArmState,
    Camera,
    Frame,
    RobotFault,
    ToolTarget,
    WatchedArm,
)

PERIOD_S = 0.02
SPEED_M_S = 0.1
_NEAR_M = 0.002
_STILL_M = 0.0001
_NUM_STILL = 10
"""Periods in a row in which the tool neither is off nor moves, before it counts as arrived."""
_SETTLE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Tool positions to visit, evenly spaced inside the box."""

    num: tuple[int, int, int] = (5, 5, 3)
    """Along x, y and z."""
    margin_m: float = 0.03
    """From the sides of the box."""
    low_m: float = 0.07
    """Height of the lowest layer."""
    high_m: float = 0.12
    """Height of the highest layer."""

    def __post_init__(self) -> None:
        if min(self.num) < 1 or max(self.num) > 50:
            raise CalibrationError(f"num must be 1 .. 50 along each axis, got {self.num}")
        if not (math.isfinite(self.margin_m) and self.margin_m >= 0):
            raise CalibrationError(f"margin_m must not be negative, got {self.margin_m}")
        if not 0 < self.low_m <= self.high_m < math.inf:
            raise CalibrationError("need 0 < low_m <= high_m")

    def points_m(
        self, box_low_m: Sequence[float], box_high_m: Sequence[float]
    ) -> list[tuple[float, float, float]]:
        """Returns the positions in an order with short ways; CalibrationError outside the box."""
        low = (box_low_m[0] + self.margin_m, box_low_m[1] + self.margin_m, self.low_m)
        high = (box_high_m[0] - self.margin_m, box_high_m[1] - self.margin_m, self.high_m)
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise CalibrationError("the grid's margin leaves nothing of the box")
        if self.low_m < box_low_m[2] or self.high_m > box_high_m[2]:
            raise CalibrationError(f"heights must be within {box_low_m[2]} .. {box_high_m[2]} m")
        xs, ys, zs = (np.linspace(a, b, n) for a, b, n in zip(low, high, self.num, strict=True))
        points: list[tuple[float, float, float]] = []
        for z in zs:
            for k, x in enumerate(xs):
                points += [(float(x), float(y), float(z)) for y in (ys if k % 2 == 0 else ys[::-1])]
        return points


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture of the arm standing still."""

    frame: Frame
    state: ArmState


def visit(
    arm: Arm,
    camera: Camera,
    clock: Clock,
    points_m: Sequence[tuple[float, float, float]],
    opening: float,
    *,
    period_s: float = PERIOD_S,
) -> Iterator[View]:
    """Carries the object to each point in a straight line and yields what is seen there.

    Args:
        arm: Connected and ready.
        camera: Sees the workspace.
        clock: Of both.
        points_m: Where to go, base frame.
        opening: Of the gripper all the while, 0 closed .. 1 open.
        period_s: Between two commands.

    Raises:
        RobotFault: The arm does not arrive or the camera gives nothing new.
    """
    for point_m in points_m:
        _carry(arm, clock, np.array(point_m), opening, period_s)
        state = arm.state()
        x, y, z = point_m
        here = ToolTarget(position_m=(x, y, z), gripper_opening=opening)
        frame = _fresh(camera, clock, state.t_ns, lambda here=here: arm.command(here))
        if isinstance(arm, WatchedArm):
            # Whoever gets the view may take their time with it.
            arm.rest()
        yield View(frame=frame, state=state)


def _carry(arm: Arm, clock: Clock, goal_m: np.ndarray, opening: float, period_s: float) -> None:
    period_ns = round(period_s * 1e9)
    sent_m = np.array(arm.state().position_m)
    give_up_ns: int | None = None
    here_m, num_still = sent_m, 0
    while True:
        way_m = goal_m - sent_m
        length_m = float(np.linalg.norm(way_m))
        step_m = SPEED_M_S * period_s
        sent_m = goal_m if length_m <= step_m else sent_m + way_m * (step_m / length_m)
        x, y, z = (float(n) for n in sent_m)
        arm.command(ToolTarget(position_m=(x, y, z), gripper_opening=opening))
        clock.sleep_until_ns(clock.now_ns() + period_ns)
        before_m, here_m = here_m, np.array(arm.state().position_m)
        if length_m > step_m:
            continue
        is_there = float(np.linalg.norm(here_m - goal_m)) <= _NEAR_M
        is_still = float(np.linalg.norm(here_m - before_m)) <= _STILL_M
        num_still = num_still + 1 if is_there and is_still else 0
        if num_still >= _NUM_STILL:
            return
        give_up_ns = give_up_ns or clock.now_ns() + round(_SETTLE_S * 1e9)
        if clock.now_ns() >= give_up_ns:
            raise RobotFault(
                "calibration_not_reached",
                f"the tool stands at {here_m.round(4).tolist()}, not at {goal_m.tolist()}",
            )


def _fresh(camera: Camera, clock: Clock, after_ns: int, stay: Callable[[], None]) -> Frame:
    give_up_ns = clock.now_ns() + round(_SETTLE_S * 1e9)
    while True:
        frame = camera.read()
        if frame.t_ns >= after_ns:
            return frame
        if clock.now_ns() >= give_up_ns:
            raise RobotFault("camera_stale", f"camera {camera.name} shows nothing new")
        stay()
        clock.sleep_until_ns(clock.now_ns() + round(PERIOD_S * 1e9 / 2))
