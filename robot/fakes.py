"""A robot that counts: everything it observes is the number of commands since the reset.

What counts can be checked anywhere downstream: observation k of a trial is k, so a row that is
missing, doubled or out of order shows. Ships with the package, to try a site without an arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot.clock import Clock
from robot.env import RobotEnv
from robot.faulty_camera import CameraTrouble, FaultyCamera
from robot.frames import FrameLimits
from robot.interfaces import Arm, ArmState, Frame, RobotFault, StartPose, ToolTarget
from robot.observation import Observation, make_spec
from robot.safety import SafetyGate, SafetyLimits

# The counter is no place: limits that no count reaches.
_FAR_M = 1e9
_UNLIMITED = SafetyLimits(
    box_low_m=(-_FAR_M, -_FAR_M, -_FAR_M),
    box_high_m=(_FAR_M, _FAR_M, _FAR_M),
    max_step_m=_FAR_M,
    max_speed_m_s=_FAR_M,
    max_lag_m=_FAR_M,
    max_outside_m=_FAR_M,
)


class CountingArm:
    """An arm whose measured x, y and z are the number of commands since its reset."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        """Commands since the reset."""
        self.targets: list[ToolTarget] = []
        """Every target since the reset."""
        self._clock = clock
        self._fault: RobotFault | None = None
        self._is_connected = False

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None."""
        return self._fault

    def connect(self) -> None:
        """Makes the arm ready."""
        self._is_connected = True

    def reset(self, pose: StartPose) -> None:
        """Counts from 0 again."""
        self._check_ready()
        self._check_finite((*pose.position_m, pose.gripper_opening))
        self.count = 0
        self.targets = []

    def state(self) -> ArmState:
        """Returns the count as a position."""
        place = float(self.count)
        return ArmState(
            position_m=(place, place, place),
            rotation_rad=(0.0, 0.0, 0.0),
            gripper_opening=0.0,
            is_gripper_stuck=False,
            t_ns=self._clock.now_ns(),
        )

    def command(self, target: ToolTarget) -> None:
        """Counts one more."""
        self._check_ready()
        self._check_finite((*target.position_m, target.gripper_opening))
        self.count += 1
        self.targets.append(target)

    def stop(self, cause: RobotFault | None = None) -> None:
        """Latches `cause`, or the fault `stopped`, if none is latched yet."""
        if self._fault is None:
            self._fault = cause or RobotFault("stopped", "motion was stopped")

    def clear_fault(self) -> None:
        """Forgets the latched fault."""
        self._fault = None

    def close(self) -> None:
        """Lets go; nothing to let go of."""
        self._is_connected = False

    def _check_ready(self) -> None:
        if self._fault is not None:
            raise self._fault.again()
        if not self._is_connected:
            raise RobotFault("not_connected", "call connect() first")

    def _check_finite(self, numbers: tuple[float, ...]) -> None:
        if not all(math.isfinite(number) for number in numbers):
            self._fault = RobotFault("target_not_finite", f"got {numbers}")
            raise self._fault.again()


class CountingCamera:
    """A camera whose every pixel is the arm's count, modulo 256."""

    def __init__(
        self, arm: CountingArm, clock: Clock, *, image_size: int = 16, name: str = "front"
    ) -> None:
        self._arm = arm
        self._clock = clock
        self._name = name
        self._image_size = image_size
        self._frame_number = 0

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    def read(self) -> Frame:
        """Returns a frame of the present count. [image_size, image_size, 3]"""
        self._frame_number += 1
        shape = (self._image_size, self._image_size, 3)
        return Frame(
            image=np.full(shape, self._arm.count % 256, dtype=np.uint8),
            t_ns=self._clock.now_ns(),
            frame_number=self._frame_number,
        )

    def close(self) -> None:
        """Lets go; nothing to let go of."""


class FaultyArm:
    """An arm that breaks down: at the given command, and never again after `clear_fault`.

    Args:
        arm: What answers until then, and after.
        fault_at_command: Commands that still work before the fault.
        code: Code of the fault.
    """

    def __init__(self, arm: Arm, *, fault_at_command: int, code: str = "collision") -> None:
        self._arm = arm
        self._num_left: int | None = fault_at_command
        self._code = code
        self._fault: RobotFault | None = None

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None."""
        return self._fault or self._arm.fault

    def connect(self) -> None:
        """Connects the arm behind."""
        self._arm.connect()

    def reset(self, pose: StartPose) -> None:
        """Resets the arm behind, unless broken down."""
        self._check()
        self._arm.reset(pose)

    def state(self) -> ArmState:
        """Returns the state of the arm behind."""
        return self._arm.state()

    def command(self, target: ToolTarget) -> None:
        """Passes the command on, or breaks down."""
        self._check()
        if self._num_left == 0:
            self._num_left = None
            self._fault = RobotFault(self._code, "the fake was asked to break down here")
            raise self._fault.again()
        if self._num_left is not None:
            self._num_left -= 1
        self._arm.command(target)

    def stop(self, cause: RobotFault | None = None) -> None:
        """Stops the arm behind."""
        self._arm.stop(cause)

    def clear_fault(self) -> None:
        """Repairs it for good."""
        self._fault = None
        self._arm.clear_fault()

    def close(self) -> None:
        """Closes the arm behind."""
        self._arm.close()

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault.again()


class CountingTask:
    """Arranges nothing and knows the count."""

    def __init__(self, arm: CountingArm) -> None:
        self._arm = arm

    def begin(self, seed: int, position_index: int | None) -> StartPose:
        """Returns the origin."""
        return StartPose(position_m=(0.0, 0.0, 0.0), gripper_opening=0.0)

    def truth(self) -> Mapping[str, Any]:
        """Returns `count`."""
        return {"count": self._arm.count}


class CountingReward:
    """1 from the given count on; never, for None."""

    def __init__(self, success_at: int | None) -> None:
        self._success_at = success_at

    def begin(self, observation: Observation) -> None:
        """Remembers nothing."""

    def __call__(self, observation: Observation) -> float:
        """Returns 1 once the count is reached."""
        truth = observation.truth
        is_reached = (
            truth is not None
            and self._success_at is not None
            and truth["count"] >= self._success_at
        )
        return 1.0 if is_reached else 0.0

    def is_success(self, reward: float) -> bool:
        """Whether the count was reached."""
        return reward >= 1.0


def make_counting_env(
    clock: Clock,
    *,
    max_steps: int = 10,
    control_hz: float = 10.0,
    image_size: int = 16,
    success_at: int | None = None,
    fault_at_command: int | None = None,
    camera_troubles: Mapping[int, CameraTrouble] | None = None,
    frame_limits: FrameLimits | None = None,
) -> RobotEnv:
    """Returns a robot with actions x and y whose observation k of a trial is k.

    Every pixel of `image.front` is k modulo 256 and the first three numbers of `state` are k.

    Args:
        clock: Stamps what it observes.
        max_steps: Of the spec.
        control_hz: Of the spec.
        image_size: Side of the square image.
        success_at: Reward is 1 from this observation on; None is never.
        fault_at_command: Commands that work before the arm breaks down; None is for ever.
        camera_troubles: What goes wrong at which read of the camera; None is nothing, ever.
        frame_limits: When frames are too old; None for the defaults.
    """
    spec = make_spec(
        task="count",
        camera_names=("front",),
        image_size=image_size,
        action_names=("x", "y"),
        action_scale=(1.0, 1.0),
        control_hz=control_hz,
        max_steps=max_steps,
    )
    arm = CountingArm(clock)
    camera = CountingCamera(arm, clock, image_size=image_size)
    return RobotEnv(
        arm=arm if fault_at_command is None else FaultyArm(arm, fault_at_command=fault_at_command),
        cameras=[FaultyCamera(camera, clock, camera_troubles or {})],
        reward=CountingReward(success_at),
        gate=SafetyGate(
            _UNLIMITED,
            action_names=spec.action_names,
            action_scale=spec.action_scale,
            period_s=1.0 / control_hz,
        ),
        task=CountingTask(arm),
        spec=spec,
        clock=clock,
        frame_limits=frame_limits,
    )
