"""What a robot sees of itself and of the scene, in the form that is recorded and planned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from protos.trial import FieldSpec, RobotSpec
from robot.interfaces import ArmState, Frame, RobotFault

STATE_SIZE = 8
STATE_UNIT = (
    "tool x y z (m, base frame); roll in [0, 2 pi), pitch, yaw (rad); gripper opening "
    "(0 closed .. 1 open); gripper stuck (0 or 1)"
)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the robot knew at one moment."""

    fields: Mapping[str, np.ndarray]
    """One array a field of the spec, with its dtype and shape."""
    t_observed_ns: int
    """When the oldest of its camera frames was taken, monotonic; a frame that is shown again keeps
    the time of the first time."""
    is_stale: bool = False
    """A camera shows nothing new enough to act upon: hold."""
    truth: Mapping[str, Any] | None = None
    """Where things really are, in simulation; never part of a trial."""
    frames: Mapping[str, Frame] = field(default_factory=dict)
    """What the cameras gave before it was reduced, by the camera's name; never part of a trial."""
    arm: ArmState | None = None
    """What the arm measured, with its time; never part of a trial."""

    def seen_by(self, camera_name: str) -> tuple[Frame, ArmState]:
        """Returns the frame of one camera and the arm's state; RobotFault where one is missing."""
        frame = self.frames.get(camera_name)
        if frame is None or self.arm is None:
            raise RobotFault(
                "camera_missing",
                f"need a frame of camera {camera_name!r} and the arm's state, got frames of "
                f"{sorted(self.frames)}",
            )
        return frame, self.arm


def make_spec(
    *,
    task: str,
    camera_names: Sequence[str],
    image_size: int,
    action_names: Sequence[str],
    action_scale: Sequence[float],
    control_hz: float,
    max_steps: int,
) -> RobotSpec:
    """Returns the spec of a robot with square colour images and the state of 8 numbers."""
    images = tuple(
        FieldSpec(
            name=f"image.{name}", dtype="uint8", shape=(image_size, image_size, 3), unit="RGB"
        )
        for name in camera_names
    )
    state = FieldSpec(name="state", dtype="float32", shape=(STATE_SIZE,), unit=STATE_UNIT)
    return RobotSpec(
        task=task,
        observations=(*images, state),
        action_names=tuple(action_names),
        action_scale=tuple(action_scale),
        control_hz=control_hz,
        max_steps=max_steps,
    )


def reduce_image(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Crops the middle square of an image and averages it down to `shape`.

    Args:
        image: uint8. [Y, X, C]
        shape: Wanted [Y, X, C], no larger than the square.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if square.shape == shape:
        return np.ascontiguousarray(square).copy()
    if side < max(shape[:2]):
        raise ValueError(f"the camera gives {image.shape}, too small for {shape}")
    return cv2.resize(square, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def state_vector(state: ArmState) -> np.ndarray:
    """Returns the observed state, float32 [8], see `STATE_UNIT`.

    Roll is taken in [0, 2 pi): a tool that points down has roll pi, where the usual range jumps.
    """
    roll, pitch, yaw = state.rotation_rad
    return np.array(
        [
            *state.position_m,
            roll % (2 * math.pi),
            pitch,
            yaw,
            state.gripper_opening,
            float(state.is_gripper_stuck),
        ],
        dtype=np.float32,
    )
