"""An arm that moves as a trapezoid of speed would, and keeps a record of all it was told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from robot.clock import Clock
from robot.interfaces import ArmState, RobotFault, StartPose, ToolTarget

Kind = Literal["command", "stop", "state"]
_SLICE_NS, _FINE_NS = 10_000_000, 2_000_000
_OPENING_S = 2.0


@dataclass(frozen=True)
class Entry:
    """One thing that happened, and how the arm was at that moment."""

    t_ns: int
    kind: Kind
    target: tuple[float, float, float]
    """What was commanded; for other kinds what holds."""
    place: tuple[float, float, float]
    speed_m_s: float


class RecordingArm:
    """An arm of the given speed and acceleration; a stop brakes it as hard as it can.

    Args:
        clock: What its motion and its record are dated by.
        record: Gets every command and every stop; of states only the ones asked for.
        place: Where it is at first.
        keep_states: Whether looks at the state are recorded too.
    """

    speed_m_s = 0.25
    acceleration_m_s2 = 2.0

    def __init__(
        self,
        clock: Clock,
        record: Callable[[Entry], None],
        *,
        place: tuple[float, float, float] = (0.40, 0.0, 0.12),
        keep_states: bool = False,
    ) -> None:
        self._clock, self._record, self._keep_states = clock, record, keep_states
        self.place = place
        self.shift = (0.0, 0.0, 0.0)
        """Added to what it measures: an arm that is not where it says."""
        self.rotation_rad = (math.pi, 0.0, 0.0)
        """What it measures of its rotation."""
        self.cause: RobotFault | None = None
        """What keeps it from being cleared."""
        self.is_frozen = False
        """It measures nothing new."""
        self.num_clears = 0
        self._velocity = (0.0, 0.0, 0.0)
        self._most_m_s2 = self.acceleration_m_s2
        self._target: tuple[float, float, float] | None = None
        self._opening = self._opening_target = 0.6
        self._fault: RobotFault | None = None
        self._is_connected = False
        self._t_ns = clock.now_ns()
        self._state: ArmState | None = None

    @property
    def fault(self) -> RobotFault | None:
        return self._fault or self.cause

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    def connect(self) -> None:
        if self.cause is not None:
            raise self.cause.again()
        self._is_connected = True

    def reset(self, pose: StartPose) -> None:
        raise AssertionError("the guard leads the arm to the start by itself")

    def state(self) -> ArmState:
        self._advance()
        if self._state is None or not self.is_frozen:
            x, y, z = (at + by for at, by in zip(self.place, self.shift, strict=True))
            self._state = ArmState(
                position_m=(x, y, z),
                rotation_rad=self.rotation_rad,
                gripper_opening=self._opening,
                is_gripper_stuck=False,
                t_ns=self._t_ns,
            )
        if self._keep_states:
            self._note("state")
        return self._state

    def command(self, target: ToolTarget) -> None:
        self.brake(target, self.acceleration_m_s2)

    def brake(self, target: ToolTarget, deceleration_m_s2: float) -> None:
        if self.fault is not None:
            raise self.fault.again()
        self._advance()
        self._most_m_s2 = deceleration_m_s2
        self._target, self._opening_target = target.position_m, target.gripper_opening
        self._note("command")

    def stop(self, cause: RobotFault | None = None) -> None:
        self._advance()
        self._target = None
        self._fault = self._fault or cause or RobotFault("stopped", "motion was stopped")
        self._note("stop")

    def clear_fault(self) -> None:
        if self.cause is not None:
            raise self.cause.again()
        self.num_clears += 1
        self._fault = None

    def close(self) -> None:
        self._is_connected = False

    def _note(self, kind: Kind) -> None:
        self._record(Entry(self._t_ns, kind, self._target or self.place, self.place, self._speed()))

    def _speed(self) -> float:
        return math.hypot(*self._velocity)

    def _advance(self) -> None:
        now_ns = self._clock.now_ns()
        while self._t_ns < now_ns:
            is_hard = self._most_m_s2 > self.acceleration_m_s2
            slice_ns = min(_FINE_NS if is_hard else _SLICE_NS, now_ns - self._t_ns)
            if self._is_at_rest():
                slice_ns = now_ns - self._t_ns
            else:
                self._move(slice_ns * 1e-9)
            self._t_ns += slice_ns
            turn = _OPENING_S * slice_ns * 1e-9
            gap = self._opening_target - self._opening
            self._opening += min(max(gap, -turn), turn)

    def _is_at_rest(self) -> bool:
        return self._velocity == (0.0, 0.0, 0.0) and self._target in (None, self.place)

    def _move(self, seconds: float) -> None:
        # Axis by axis, without tuples in between: this runs a million times in a test.
        (x, y, z), (vx, vy, vz) = self.place, self._velocity
        wished_x = wished_y = wished_z = 0.0
        if self._target is not None:
            to_x, to_y, to_z = self._target
            gap_x, gap_y, gap_z = to_x - x, to_y - y, to_z - z
            distance = math.hypot(gap_x, gap_y, gap_z)
            if distance <= 1e-4 and self._speed() < 0.05:
                self.place, self._velocity = self._target, (0.0, 0.0, 0.0)
                return
            distance = max(distance, 1e-12)
            speed = min(
                self.speed_m_s,
                math.sqrt(2 * self._most_m_s2 * distance) * 0.9,
                distance / seconds,
            )
            wished_x = gap_x * speed / distance
            wished_y = gap_y * speed / distance
            wished_z = gap_z * speed / distance
        change_x, change_y, change_z = wished_x - vx, wished_y - vy, wished_z - vz
        most = self._most_m_s2 * seconds
        factor = min(1.0, most / max(math.hypot(change_x, change_y, change_z), 1e-12))
        vx, vy, vz = vx + change_x * factor, vy + change_y * factor, vz + change_z * factor
        self._velocity = (vx, vy, vz)
        self.place = (x + vx * seconds, y + vy * seconds, z + vz * seconds)


class TellingArm(RecordingArm):
    """An arm whose controller says whether it stopped."""

    is_stop_confirmed = True
    is_deaf = False
    """It confirms no stop."""
    error: Exception | None = None
    """What a stop raises, once it was sent."""

    def stop(self, cause: RobotFault | None = None) -> None:
        super().stop(cause)
        self.is_stop_confirmed = not self.is_deaf
        if self.error is not None:
            raise self.error
