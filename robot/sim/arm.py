"""The simulated xArm 7 behind the same interface as the real one."""

from __future__ import annotations

import math

import numpy as np

from robot.interfaces import ArmState, RobotFault, StartPose, ToolTarget
from robot.sim.kinematics import roll_pitch_yaw
from robot.sim.world import SimWorld


class SimArm:
    """An arm in a `SimWorld`. Its reset is a teleport: exact, settled and free of clock time."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._fault: RobotFault | None = None
        self._is_connected = False

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None while the arm may move."""
        return self._fault

    def connect(self) -> None:
        """Makes the arm ready to move."""
        self._is_connected = True

    def reset(self, pose: StartPose) -> None:
        """Stands at `pose`, settled, when it returns."""
        self._check_ready()
        if not all(math.isfinite(x) for x in (*pose.position_m, pose.gripper_opening)):
            raise self._latch("target_not_finite", f"got {pose}")
        try:
            self._world.place_arm(np.array(pose.position_m), pose.gripper_opening)
        except ValueError as error:
            raise self._latch("unreachable", str(error)) from error

    def state(self) -> ArmState:
        """Returns the state at the clock's present."""
        self._world.advance()
        position, rotation = self._world.tool_pose()
        return ArmState(
            position_m=(float(position[0]), float(position[1]), float(position[2])),
            rotation_rad=roll_pitch_yaw(rotation),
            gripper_opening=self._world.gripper_opening(),
            is_gripper_stuck=self._world.is_gripper_stuck(),
            t_ns=self._world.t_ns,
        )

    def command(self, target: ToolTarget) -> None:
        """Starts moving to `target`."""
        self._check_ready()
        if not all(math.isfinite(x) for x in (*target.position_m, target.gripper_opening)):
            self._world.freeze()
            raise self._latch("target_not_finite", f"got {target}")
        self._world.command(np.array(target.position_m), min(max(target.gripper_opening, 0.0), 1.0))

    def stop(self, cause: RobotFault | None = None) -> None:
        """Holds the joints where they are and latches `cause`, or the fault `stopped`."""
        self._world.freeze()
        if self._fault is None:
            self._fault = cause or RobotFault("stopped", "motion was stopped")

    def clear_fault(self) -> None:
        """Lets the arm move again."""
        self._fault = None

    def close(self) -> None:
        """Stops motion."""
        self._world.freeze()
        self._is_connected = False

    def _check_ready(self) -> None:
        if self._fault is not None:
            raise self._fault.again()
        if not self._is_connected:
            raise RobotFault("not_connected", "call connect() first")

    def _latch(self, code: str, message: str) -> RobotFault:
        self._fault = RobotFault(code, message)
        return self._fault
