"""Where the tool is for given joints, and which joints bring the tool where it should be.

Inverse kinematics runs on the *commanded* joints, in a model of its own: closing the loop over the
measured pose oscillates, because the servos lag behind.
"""

from __future__ import annotations

import numpy as np

from robot.sim.arm_model import HOME_RAD, JOINTS, make_arm_mjcf
from robot.sim.engine import mujoco

DAMPING = 1e-4
"""Square of the damping of the least-squares inverse."""
MAX_TOOL_SPEED_M_S = 1.0
MAX_TOOL_TURN_RAD_S = 2.0
MAX_JOINT_SPEED_RAD_S = np.pi
_NULLSPACE_GAIN_HZ = 2.0

TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a tool that points straight down, as at all joints zero: roll pi."""


class ToolKinematics:
    """Kinematics of the tool of an xArm 7."""

    def __init__(self) -> None:
        self._model = mujoco.MjModel.from_xml_string(make_arm_mjcf())
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._jacobian = np.zeros((6, self._model.nv))
        self._low = np.array([joint.low_rad for joint in JOINTS])
        self._high = np.array([joint.high_rad for joint in JOINTS])
        self._home = np.array(HOME_RAD)

    def pose(self, joints_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tool's position [3] and rotation matrix [3, 3] in the base frame."""
        self._data.qpos[:] = joints_rad
        mujoco.mj_kinematics(self._model, self._data)
        return (
            self._data.site_xpos[self._site].copy(),
            self._data.site_xmat[self._site].reshape(3, 3).copy(),
        )

    def step(self, joints_rad: np.ndarray, position_m: np.ndarray, duration_s: float) -> np.ndarray:
        """Returns joints [7] nearer to the tool pointing down at `position_m`.

        Tool and joint speeds stay within their limits for a step that takes `duration_s`, and
        the spare joint drifts home.
        """
        here_m, rotation = self.pose(joints_rad)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(
            self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site
        )
        twist = np.concatenate(
            [
                _capped(position_m - here_m, MAX_TOOL_SPEED_M_S * duration_s),
                _capped(_rotation_between(rotation, TOOL_DOWN), MAX_TOOL_TURN_RAD_S * duration_s),
            ]
        )
        jacobian = self._jacobian
        normal = jacobian @ jacobian.T
        normal[np.diag_indices(6)] += DAMPING
        drift = _NULLSPACE_GAIN_HZ * duration_s * (self._home - joints_rad)
        # J+ twist + (I - J+ J) drift, with one solve.
        move = drift + jacobian.T @ np.linalg.solve(normal, twist - jacobian @ drift)
        fastest = float(np.abs(move).max())
        limit = MAX_JOINT_SPEED_RAD_S * duration_s
        if fastest > limit:
            move *= limit / fastest
        return np.clip(joints_rad + move, self._low, self._high)

    def solve(self, position_m: np.ndarray) -> np.ndarray:
        """Returns joints [7] with the tool pointing down at `position_m`, near the home pose.

        Raises:
            ValueError: The arm cannot get there.
        """
        joints = self._home.copy()
        for _ in range(400):
            joints = self.step(joints, position_m, 0.05)
        here_m, rotation = self.pose(joints)
        error_m = float(np.linalg.norm(here_m - position_m))
        if error_m > 1e-3 or float(np.abs(rotation - TOOL_DOWN).max()) > 1e-2:
            raise ValueError(f"the arm cannot reach {position_m.tolist()}: {error_m:.4f} m off")
        return joints


def roll_pitch_yaw(rotation: np.ndarray) -> tuple[float, float, float]:
    """Returns the angles of R = Rz(yaw) Ry(pitch) Rx(roll), each in (-pi, pi]. [3, 3]"""
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    pitch = np.arcsin(np.clip(-rotation[2, 0], -1.0, 1.0))
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return float(roll), float(pitch), float(yaw)


def _capped(vector: np.ndarray, longest: float) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector * (longest / length) if length > longest else vector


def _rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the rotation vector, base frame, that turns `start` into `end`. [3]"""
    turn = end @ start.T
    axis = 0.5 * np.array(
        [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    )
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        return np.zeros(3)
    return axis * (float(np.arctan2(sine, (np.trace(turn) - 1.0) / 2.0)) / sine)
