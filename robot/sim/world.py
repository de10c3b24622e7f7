"""The simulated workspace in time: physics that follows a clock, and the arm's servos.

The world integrates up to the clock's present whenever it is asked anything. On the operating
system's clock it therefore runs in real time, on a simulated clock as fast as the machine allows.
When nobody asked for longer than `MAX_CATCH_UP_S`, only that much is integrated: the arm has long
come to rest at its last target, and the rest of the pause is dropped and counted in `dropped_s`.

One thread at a time; the loop that owns the arm owns the world.
"""

from __future__ import annotations

import numpy as np

from robot.clock import Clock
from robot.sim.arm_model import FINGER_TRAVEL_M, JOINTS
from robot.sim.config import SimConfig
from robot.sim.engine import mujoco
from robot.sim.kinematics import ToolKinematics
from robot.sim.scene import TIMESTEP_S, make_scene_mjcf

MAX_CATCH_UP_S = 1.0
SERVO_STEPS = 5
"""Physics steps from one servo target to the next: 10 ms."""
GRIPPER_SPEED_HZ = 2.35
"""Openings per second: the real drive turns its 0.85 rad at 2 rad/s."""
_STEP_NS = round(TIMESTEP_S * 1e9)
_MAX_CATCH_UP_STEPS = round(MAX_CATCH_UP_S / TIMESTEP_S)
_SETTLE_STEPS = 50


class SimWorld:
    """Physics of one workspace, advanced to the clock's present on every question.

    Args:
        config: What is in the workspace.
        clock: Whose time the world follows.
    """

    def __init__(self, config: SimConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.model = mujoco.MjModel.from_xml_string(make_scene_mjcf(config))
        self.data = mujoco.MjData(self.model)
        self.dropped_s = 0.0
        """Pause time that was not integrated, since construction."""
        self._kinematics = ToolKinematics()
        self._num_joints = len(JOINTS)
        self._arm = self._indices([f"joint{n}" for n in range(1, self._num_joints + 1)])
        self._fingers = self._indices(["finger_left", "finger_right"])
        self._finger_dofs = np.array(
            [int(self.model.joint(name).dofadr[0]) for name in ("finger_left", "finger_right")]
        )
        self._tool = self.model.site("tool").id
        self._pads = tuple(
            self.model.geom(name).id for name in ("finger_left_pad", "finger_right_pad")
        )
        self._commanded = np.zeros(self._num_joints)
        self._target_m = np.zeros(3)
        self._target_opening = 1.0
        self._opening = 1.0
        self._is_frozen = True
        self._origin_ns = clock.now_ns()
        self._num_steps = 0
        mujoco.mj_forward(self.model, self.data)

    def reset(self) -> None:
        """Puts everything back to how the model defines it, with time starting now."""
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        self._commanded = np.zeros(self._num_joints)
        self._target_opening = self._opening = 0.0
        self._is_frozen = True
        self._restart_time()

    def place_body(self, name: str, position_m: np.ndarray, yaw_rad: float = 0.0) -> None:
        """Puts a free or mocap body at rest somewhere. [3]"""
        turn = np.array([np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)])
        mocap = int(self.model.body(name).mocapid[0])
        if mocap >= 0:
            self.data.mocap_pos[mocap] = position_m
            self.data.mocap_quat[mocap] = turn
            mujoco.mj_forward(self.model, self.data)
            return
        start = int(self.model.joint(name).qposadr[0])
        self.data.qpos[start : start + 3] = position_m
        self.data.qpos[start + 3 : start + 7] = turn
        speed = int(self.model.joint(name).dofadr[0])
        self.data.qvel[speed : speed + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def place_arm(self, position_m: np.ndarray, opening: float) -> None:
        """Puts the arm at rest with its tool at `position_m` [3] and lets everything settle.

        Takes no time on the clock. Raises ValueError if the arm cannot reach there.
        """
        self._commanded = self._kinematics.solve(position_m)
        self._target_m = np.array(position_m, dtype=np.float64)
        self._target_opening = self._opening = opening
        self._is_frozen = False
        self.data.qpos[self._arm] = self._commanded
        self.data.qpos[self._fingers] = opening * FINGER_TRAVEL_M
        self.data.qvel[:] = 0.0
        self.data.qacc_warmstart[:] = 0.0
        for _ in range(_SETTLE_STEPS // SERVO_STEPS):
            self._servo()
            mujoco.mj_step(self.model, self.data, SERVO_STEPS)
        mujoco.mj_forward(self.model, self.data)
        self._restart_time()

    def command(self, position_m: np.ndarray, opening: float) -> None:
        """Makes the tool move to `position_m` [3] and the gripper to `opening` from now on."""
        self.advance()
        self._target_m = np.array(position_m, dtype=np.float64)
        self._target_opening = opening
        self._is_frozen = False

    def freeze(self) -> None:
        """Holds the joints and the gripper where they are commanded now."""
        self.advance()
        self._is_frozen = True

    def advance(self) -> None:
        """Integrates up to the clock's present."""
        due = (self.clock.now_ns() - self._origin_ns) // _STEP_NS - self._num_steps
        if due <= 0:
            return
        if due > _MAX_CATCH_UP_STEPS:
            dropped = due - _MAX_CATCH_UP_STEPS
            self.dropped_s += dropped * TIMESTEP_S
            self._origin_ns += dropped * _STEP_NS
            due = _MAX_CATCH_UP_STEPS
        while due > 0:
            phase = self._num_steps % SERVO_STEPS
            if phase == 0:
                self._servo()
            steps = min(due, SERVO_STEPS - phase)
            mujoco.mj_step(self.model, self.data, steps)
            self._num_steps += steps
            due -= steps
        # Positions of sites and contacts belong to the state before the last step until this.
        mujoco.mj_forward(self.model, self.data)

    @property
    def t_ns(self) -> int:
        """The moment the physics stands at, on the clock."""
        return self._origin_ns + self._num_steps * _STEP_NS

    def tool_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the measured tool position [3] and rotation matrix [3, 3]."""
        return (
            self.data.site_xpos[self._tool].copy(),
            self.data.site_xmat[self._tool].reshape(3, 3).copy(),
        )

    def gripper_opening(self) -> float:
        """Returns the measured opening, 0 closed .. 1 open."""
        opening = float(self.data.qpos[self._fingers].mean()) / FINGER_TRAVEL_M
        return min(max(opening, 0.0), 1.0)

    def is_gripper_stuck(self) -> bool:
        """Whether the fingers stand still clearly wider than they were told to."""
        is_still = float(np.abs(self.data.qvel[self._finger_dofs]).max()) < 0.01
        return is_still and self.gripper_opening() - self._opening > 0.05

    def site_position(self, name: str) -> np.ndarray:
        """Returns where a named site is, base frame. [3]"""
        return self.data.site(name).xpos.copy()

    def body_position(self, name: str) -> np.ndarray:
        """Returns where a named body is, base frame. [3]"""
        return self.data.body(name).xpos.copy()

    def is_grasped(self, geom_name: str) -> bool:
        """Whether both finger pads touch the named geom."""
        geom = self.model.geom(geom_name).id
        pairs = self.data.contact.geom[: self.data.ncon]
        return all(
            bool(
                np.any(np.all(pairs == (pad, geom), axis=1) | np.all(pairs == (geom, pad), axis=1))
            )
            for pad in self._pads
        )

    def _servo(self) -> None:
        """Moves the servo targets on by one servo period."""
        period_s = SERVO_STEPS * TIMESTEP_S
        if not self._is_frozen:
            self._commanded = self._kinematics.step(self._commanded, self._target_m, period_s)
            most = GRIPPER_SPEED_HZ * period_s
            wish = self._target_opening - self._opening
            self._opening += min(max(wish, -most), most)
        self.data.ctrl[: self._num_joints] = self._commanded
        self.data.ctrl[self._num_joints] = self._opening * FINGER_TRAVEL_M

    def _restart_time(self) -> None:
        self._origin_ns = self.clock.now_ns()
        self._num_steps = 0

    def _indices(self, names: list[str]) -> np.ndarray:
        return np.array([int(self.model.joint(name).qposadr[0]) for name in names])
