"""How the double of the arm moves: a set point with bounded speed and acceleration, and bodies.

A `Body` is what carries the tool. `KinematicBody` is exactly at the set point; a body of physics
follows it (`robot.doubles.xarm_physics`). Bodies move only when they are told the time.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

STEP_NS = 2_000_000
"""Time step of the set point."""
_STEP_S = STEP_NS * 1e-9
# A pause that nobody asked through is integrated for this long; by then the arm is at rest.
_MAX_CATCH_UP_NS = 20_000_000_000
_NEAR_M = 1e-6
TOOL_DOWN_RAD = (math.pi, 0.0, 0.0)


class Body(Protocol):
    """Something that carries a tool and a gripper. Metres, radians, openings 0 .. 1."""

    @property
    def t_ns(self) -> int:
        """The moment the body stands at."""
        ...

    @property
    def is_moving(self) -> bool:
        """Whether the tool is on its way."""
        ...

    @property
    def speed_m_s(self) -> float:
        """Speed of the tool's set point."""
        ...

    def advance(self, t_ns: int) -> None:
        """Moves on to `t_ns`."""
        ...

    def move_to(self, position_m: np.ndarray, speed_m_s: float, acceleration_m_s2: float) -> None:
        """Makes the tool go there from now on, with continuous speed. [3]"""
        ...

    def move_at(self, velocity_m_s: np.ndarray, acceleration_m_s2: float) -> None:
        """Makes the tool keep this velocity from now on. [3]"""
        ...

    def halt(self, deceleration_m_s2: float) -> None:
        """Brings the tool to rest."""
        ...

    def pose(self) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Returns where the tool is [3] and its roll, pitch, yaw."""
        ...

    def joints_rad(self) -> np.ndarray:
        """Returns the joints. [7]"""
        ...

    def move_gripper(self, opening: float, speed_hz: float) -> None:
        """Makes the gripper go there, at so many openings a second."""
        ...

    def gripper_opening(self) -> float:
        """Returns how open the gripper is."""
        ...

    def block_gripper(self, opening: float | None) -> None:
        """Puts something between the fingers that keeps them this far open; None takes it away."""
        ...


class SetPoint:
    """A point that goes where it is told within its speed and acceleration, in a straight line
    from rest; a new goal on the way bends its path, and its velocity never jumps."""

    def __init__(self, position_m: np.ndarray) -> None:
        self.position_m = np.array(position_m, dtype=np.float64)
        self.velocity_m_s = np.zeros(3)
        self._goal_m: np.ndarray | None = self.position_m.copy()
        self._wished_m_s = np.zeros(3)
        self._speed_m_s = 0.1
        self._acceleration_m_s2 = 1.0

    @property
    def is_moving(self) -> bool:
        """Whether it has not arrived, or has a velocity to keep."""
        if self._goal_m is None:
            return bool(np.any(self.velocity_m_s != 0.0) or np.any(self._wished_m_s != 0.0))
        return bool(np.any(self.velocity_m_s != 0.0) or np.any(self.position_m != self._goal_m))

    def move_to(self, goal_m: np.ndarray, speed_m_s: float, acceleration_m_s2: float) -> None:
        """Takes a new goal. [3]"""
        self._goal_m = np.array(goal_m, dtype=np.float64)
        self._speed_m_s = speed_m_s
        self._acceleration_m_s2 = acceleration_m_s2

    def move_at(self, velocity_m_s: np.ndarray, acceleration_m_s2: float) -> None:
        """Takes a velocity to keep. [3]"""
        self._goal_m = None
        self._wished_m_s = np.array(velocity_m_s, dtype=np.float64)
        self._acceleration_m_s2 = acceleration_m_s2

    def step(self) -> None:
        """Moves on by one time step."""
        if not self.is_moving:
            return
        most = self._acceleration_m_s2 * _STEP_S
        if self._goal_m is None:
            wished = self._wished_m_s
        else:
            way = self._goal_m - self.position_m
            length_m = float(np.linalg.norm(way))
            if length_m <= _NEAR_M and float(np.linalg.norm(self.velocity_m_s)) <= most:
                self.position_m = self._goal_m.copy()
                self.velocity_m_s = np.zeros(3)
                return
            # Braking begins a little early: the velocity follows the wish one step behind.
            braking_m_s = math.sqrt(1.8 * self._acceleration_m_s2 * length_m)
            speed_m_s = min(self._speed_m_s, braking_m_s, length_m / _STEP_S)
            wished = way * (speed_m_s / length_m) if length_m > 0 else np.zeros(3)
        change = wished - self.velocity_m_s
        size = float(np.linalg.norm(change))
        if size > most:
            change *= most / size
        self.velocity_m_s = self.velocity_m_s + change
        self.position_m = self.position_m + self.velocity_m_s * _STEP_S


class Fingers:
    """A gripper's drive: goes to an opening at a speed, and not through what it holds."""

    def __init__(self, opening: float) -> None:
        self.opening = opening
        self._goal = opening
        self._speed_hz = 1.0
        self._blocked_at: float | None = None

    def move_to(self, opening: float, speed_hz: float) -> None:
        """Takes a new goal."""
        self._goal = opening
        self._speed_hz = speed_hz

    def block(self, opening: float | None) -> None:
        """Puts an object between the fingers, or takes it away for None."""
        self._blocked_at = opening

    def step(self) -> None:
        """Moves on by one time step."""
        goal = self._goal if self._blocked_at is None else max(self._goal, self._blocked_at)
        if goal < self.opening or self._goal > self.opening:
            most = self._speed_hz * _STEP_S
            self.opening += min(max(goal - self.opening, -most), most)


class SteeredBody:
    """A body whose tool follows a set point.

    Args:
        position_m: Where the tool is at first. [3]
        t_ns: When that is.
    """

    def __init__(self, position_m: tuple[float, float, float], t_ns: int) -> None:
        self._point = SetPoint(np.array(position_m))
        self._t_ns = t_ns

    @property
    def t_ns(self) -> int:
        """The moment the body stands at."""
        return self._t_ns

    @property
    def is_moving(self) -> bool:
        """Whether the set point is on its way."""
        return self._point.is_moving

    @property
    def speed_m_s(self) -> float:
        """Speed of the set point."""
        return float(np.linalg.norm(self._point.velocity_m_s))

    def move_to(self, position_m: np.ndarray, speed_m_s: float, acceleration_m_s2: float) -> None:
        """Makes the tool go there from now on. [3]"""
        self._point.move_to(position_m, speed_m_s, acceleration_m_s2)

    def move_at(self, velocity_m_s: np.ndarray, acceleration_m_s2: float) -> None:
        """Makes the tool keep this velocity from now on. [3]"""
        self._point.move_at(velocity_m_s, acceleration_m_s2)

    def halt(self, deceleration_m_s2: float) -> None:
        """Brings the set point to rest."""
        self._point.move_at(np.zeros(3), deceleration_m_s2)


class KinematicBody(SteeredBody):
    """A tool without mass: exactly at its set point, always pointing straight down.

    Args:
        position_m: Where the tool is at first. [3]
        t_ns: When that is.
        opening: Of the gripper.
    """

    def __init__(
        self, position_m: tuple[float, float, float], t_ns: int, *, opening: float = 1.0
    ) -> None:
        super().__init__(position_m, t_ns)
        # Only the joints of the reports need the simulator, and it is slow to load.
        from robot.sim.kinematics import ToolKinematics

        self._kinematics = ToolKinematics()
        self._joints = self._kinematics.solve(np.array(position_m))
        self._joints_at = np.array(position_m)
        self._fingers = Fingers(opening)

    def advance(self, t_ns: int) -> None:
        """Moves on to `t_ns`; of a very long pause only the first part is integrated."""
        num_steps = (t_ns - self._t_ns) // STEP_NS
        for _ in range(min(num_steps, _MAX_CATCH_UP_NS // STEP_NS)):
            self._point.step()
            self._fingers.step()
        self._t_ns += max(num_steps, 0) * STEP_NS

    def pose(self) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Returns where the tool is [3] and its roll, pitch, yaw."""
        return self._point.position_m.copy(), TOOL_DOWN_RAD

    def joints_rad(self) -> np.ndarray:
        """Returns joints near enough to the tool's place to look right in a report. [7]"""
        if np.any(self._joints_at != self._point.position_m):
            self._joints = self._kinematics.step(self._joints, self._point.position_m, 0.05)
            self._joints_at = self._point.position_m.copy()
        return self._joints

    def move_gripper(self, opening: float, speed_hz: float) -> None:
        """Makes the gripper go there."""
        self._fingers.move_to(opening, speed_hz)

    def gripper_opening(self) -> float:
        """Returns how open the gripper is."""
        return self._fingers.opening

    def block_gripper(self, opening: float | None) -> None:
        """Puts something between the fingers, or takes it away for None."""
        self._fingers.block(opening)
