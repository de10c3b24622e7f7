"""What an arm, a camera, a task and a reward promise; the place where units are defined.

Units inside offworld are SI: metres, radians, seconds, and nanoseconds for time stamps. Time stamps
come from one monotonic clock a process. Positions are in the frame of the arm's base: x forward,
y to the arm's left, z up. Millimetres and degrees exist only inside a driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from protos.provenance import CameraFacts

if TYPE_CHECKING:
    from robot.observation import Observation


SUCCESS = 1.0
"""Reward of a step that solves the task."""


NOT_CONFIRMED = "the arm did not confirm the stop: press the emergency stop"
CONTROLLER_ERROR = "controller_"
"""So begin the codes of errors that the arm's controller keeps, from before this process too, until
they are cleared on a person's behalf."""


class RobotFault(RuntimeError):
    """Motion stopped and stays stopped until a person clears it; `code` names the cause."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        """Short lower-case name of the cause, such as `action_not_finite`."""
        self.message = message

    def again(self) -> RobotFault:
        """Returns the same fault to raise once more, without the traces of earlier raises."""
        return RobotFault(self.code, self.message)


@dataclass(frozen=True, kw_only=True)
class StartPose:
    """Where the arm begins a trial. The tool always points straight down."""

    position_m: tuple[float, float, float]
    """Tool centre point, base frame."""
    gripper_opening: float = 1.0
    """0 closed .. 1 open."""


@dataclass(frozen=True, kw_only=True)
class ToolTarget:
    """An absolute tool position to move to, with the gripper opening to hold there."""

    position_m: tuple[float, float, float]
    """Tool centre point, base frame."""
    gripper_opening: float
    """0 closed .. 1 open."""


class ResetAbandoned(RuntimeError):
    """A reset was broken off on the way, because the program was asked to end: no fault."""


@dataclass(frozen=True, kw_only=True)
class ArmState:
    """What the arm measures of itself at one moment."""

    position_m: tuple[float, float, float]
    """Tool centre point, base frame."""
    rotation_rad: tuple[float, float, float]
    """Roll, pitch, yaw about the fixed base axes (R = Rz Ry Rx). Tool down is roll = pi."""
    gripper_opening: float
    """0 closed .. 1 open."""
    is_gripper_stuck: bool
    """The gripper was told to close further and something holds it open."""
    t_ns: int
    """When it was measured, monotonic."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One camera image and when it was taken."""

    image: np.ndarray
    """uint8 RGB. [Y, X, 3]"""
    t_ns: int
    """Capture time, monotonic."""
    frame_number: int
    """Grows by at least one from frame to frame. A frame that is given again keeps its number and
    its time, so that its age shows (`robot.frames`)."""


@runtime_checkable
class Arm(Protocol):
    """One arm with a gripper, commanded by absolute tool positions."""

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None while the arm may move."""
        ...

    def connect(self) -> None:
        """Opens the connection and makes the arm ready to move; RobotFault if it cannot."""
        ...

    def reset(self, pose: StartPose) -> None:
        """Moves to `pose` and returns once the arm has settled there; RobotFault if latched."""
        ...

    def state(self) -> ArmState:
        """Returns the newest measured state; works while a fault is latched too."""
        ...

    def command(self, target: ToolTarget) -> None:
        """Replaces the current target and returns at once; RobotFault if latched."""
        ...

    def stop(self, cause: RobotFault | None = None) -> None:
        """Stops motion and latches `cause`, or the fault `stopped`, if none is latched yet."""
        ...

    def clear_fault(self) -> None:
        """Lets the arm move again; only ever called on a person's behalf."""
        ...

    def close(self) -> None:
        """Stops motion and lets go of the connection; may be called twice."""
        ...


@runtime_checkable
class WatchedArm(Arm, Protocol):
    """An arm behind a watchdog: once targets come, it takes silence for a fault."""

    def rest(self) -> None:
        """Says that no target comes before the next reset, and that this is meant so."""
        ...

    def hold(self, *, is_aside: bool = False) -> None:
        """Has the arm brake where it is, until the next target.

        Args:
            is_aside: Asked for by a thread beside the one that drives: it says nothing of that one,
                and waits for nothing.
        """
        ...


@runtime_checkable
class BrakingArm(Arm, Protocol):
    """An arm that can go to a target with more than its usual change of speed."""

    def brake(self, target: ToolTarget, deceleration_m_s2: float) -> None:
        """Replaces the current target by one just ahead, and brakes this hard on the way."""
        ...


@runtime_checkable
class ConfirmingArm(Arm, Protocol):
    """An arm whose controller says whether it stopped."""

    @property
    def is_stop_confirmed(self) -> bool:
        """Whether the controller took the last stop, or stands still for an error of its own."""
        ...


@runtime_checkable
class Camera(Protocol):
    """One camera that always has a newest frame."""

    @property
    def name(self) -> str:
        """Short name: its images are the observation field `image.NAME`."""
        ...

    def read(self) -> Frame:
        """Returns the newest frame; RobotFault when there is none or it is unusable."""
        ...

    def close(self) -> None:
        """Lets go of the device; may be called twice."""
        ...


@runtime_checkable
class KnownCamera(Camera, Protocol):
    """A camera that knows what a trial should keep of it."""

    @property
    def facts(self) -> CameraFacts:
        """How it projects, which one it is, and how it is set."""
        ...


@runtime_checkable
class Reward(Protocol):
    """Sparse reward of one observation: 1 is success, at whichever step it appears.

    It may remember what it saw earlier in the trial, so it is shown the observation a trial begins
    with, and then those that follow, in order.
    """

    def begin(self, observation: Observation) -> None:
        """Starts a trial from its first observation, which no action led to."""
        ...

    def __call__(self, observation: Observation) -> float:
        """Returns the reward of the step that led to `observation`."""
        ...

    def is_success(self, reward: float) -> bool:
        """Whether a step with this reward solves the task."""
        ...


@runtime_checkable
class Task(Protocol):
    """Arranges the workspace for a trial and knows, in simulation, where things are."""

    def begin(self, seed: int, position_index: int | None) -> StartPose:
        """Arranges the workspace and returns where the arm starts.

        Args:
            seed: Decides every random choice; the same seed arranges the same trial.
            position_index: One of the task's fixed evaluation positions instead of a random one.
        """
        ...

    def truth(self) -> Mapping[str, Any] | None:
        """Returns where things are right now, or None where nobody knows."""
        ...
