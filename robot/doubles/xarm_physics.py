"""The double of the arm with the body of the simulated workspace: its controller's set point moves
the MuJoCo arm of a `SimWorld`, which grips and pushes what lies there."""

from __future__ import annotations

import numpy as np

from robot.clock import SimulatedClock
from robot.doubles.xarm_motion import STEP_NS, SteeredBody
from robot.sim.config import SimConfig
from robot.sim.kinematics import roll_pitch_yaw
from robot.sim.world import SERVO_STEPS, SimWorld

_MAX_CATCH_UP_NS = 1_000_000_000
_SERVO_NS = SERVO_STEPS * STEP_NS


class MujocoBody(SteeredBody):
    """The arm of a simulated workspace. Physics is stepped every 10 ms of the time it is told.

    Differs from the kinematic body: the tool lags behind its set point as the simulated servos do,
    the gripper has the world's own speed, and what blocks it is what lies between its fingers.

    Args:
        config: The workspace and its task's objects.
        position_m: Where the tool is at first. [3]
        t_ns: When that is.
        opening: Of the gripper.
    """

    def __init__(
        self,
        config: SimConfig,
        position_m: tuple[float, float, float],
        t_ns: int,
        *,
        opening: float = 1.0,
    ) -> None:
        super().__init__(position_m, t_ns)
        self._clock = SimulatedClock()
        self.world = SimWorld(config, self._clock)
        """For tests and renderers; under the controller's lock only."""
        self.world.reset()
        self.world.place_arm(np.array(position_m), opening)
        self._opening = opening

    def advance(self, t_ns: int) -> None:
        """Moves on to `t_ns` in servo periods; of a long pause only the last second is stepped."""
        num_periods = (t_ns - self._t_ns) // _SERVO_NS
        dropped = max(num_periods - _MAX_CATCH_UP_NS // _SERVO_NS, 0)
        for _ in range(num_periods - dropped):
            for _ in range(SERVO_STEPS):
                self._point.step()
            self.world.command(self._point.position_m, self._opening)
            self._clock.advance(_SERVO_NS)
            self.world.advance()
        self._t_ns += max(num_periods, 0) * _SERVO_NS

    def pose(self) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Returns where the tool is [3] and its roll, pitch, yaw."""
        position_m, rotation = self.world.tool_pose()
        return position_m, roll_pitch_yaw(rotation)

    def joints_rad(self) -> np.ndarray:
        """Returns the joints of the simulated arm. [7]"""
        return np.array([float(self.world.data.joint(f"joint{n}").qpos[0]) for n in range(1, 8)])

    def move_gripper(self, opening: float, speed_hz: float) -> None:
        """Makes the gripper go there, at the simulated drive's own speed."""
        self._opening = opening

    def gripper_opening(self) -> float:
        """Returns how open the gripper is."""
        return self.world.gripper_opening()

    def block_gripper(self, opening: float | None) -> None:
        """Refuses: in the physical world an object has to lie between the fingers."""
        raise ValueError("the gripper of this body is blocked by what lies between its fingers")
