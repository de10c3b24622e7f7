"""What a detector knows of the workspace beforehand: the calibration, as one tree of numbers.

It comes from `robot.calibrating` and is kept as a TOML file, read strictly (`services.config`).
Everything a detector uses beside frames and the arm's state is in here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot.camera_model import CalibrationError, CameraModel
from robot.detectors.colours import ColourModel
from robot.interfaces import RobotFault

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class HeldModel:
    """The object that is carried: how it looks and how it sits between the fingers."""

    colour: ColourModel
    centre_from_tool_m: tuple[float, float, float]
    """Where the middle of what is seen of it is, from the tool centre point, base frame."""
    area_m2: float
    """How large it looks, as a flat shape that faces the camera."""
    height_m: float
    """How tall it stands on the table."""
    opening: float
    """Of the gripper around it, 0 closed .. 1 open."""

    def __post_init__(self) -> None:
        _check_size(area_m2=self.area_m2, height_m=self.height_m)
        if not all(math.isfinite(n) for n in self.centre_from_tool_m):
            raise CalibrationError(
                f"centre_from_tool_m must be finite, got {self.centre_from_tool_m}"
            )
        if not 0.0 <= self.opening <= 1.0:
            raise CalibrationError(f"opening must be 0 .. 1, got {self.opening}")


@dataclass(frozen=True, kw_only=True)
class TargetModel:
    """The flat target on the table."""

    colour: ColourModel
    side_m: float
    """Side of a square of its size."""

    def __post_init__(self) -> None:
        _check_size(side_m=self.side_m)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One camera over one workspace, and the objects of a task."""

    format: int = FORMAT
    """Version of this file's layout."""
    camera_name: str
    """Whose frames it is for."""
    camera_serial: str = ""
    """Serial number of the camera that it was made with; empty where that has none, as in
    simulation."""
    camera: CameraModel
    held: HeldModel
    target: TargetModel | None = None
    """None where the task has no target."""
    box_low_m: tuple[float, float, float]
    """Lowest tool position of the workspace, base frame."""
    box_high_m: tuple[float, float, float]
    """Highest tool position of the workspace, base frame."""
    num_views: int
    """Tool positions it was made from."""
    error_px: float
    """Root mean square of the reprojection error over them."""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise CalibrationError(
                f"this is a calibration of format {self.format}, not {FORMAT}: calibrate again"
            )
        for name, corner_m in (("box_low_m", self.box_low_m), ("box_high_m", self.box_high_m)):
            if not all(math.isfinite(n) for n in corner_m):
                raise CalibrationError(f"{name} must be finite, got {corner_m}")
        if any(low >= high for low, high in zip(self.box_low_m, self.box_high_m, strict=True)):
            raise CalibrationError(
                f"box_low_m must be below box_high_m, got {self.box_low_m} and {self.box_high_m}"
            )
        if not (math.isfinite(self.error_px) and self.error_px >= 0):
            raise CalibrationError(f"error_px must not be negative, got {self.error_px}")

    @property
    def error_m(self) -> float:
        """What the reprojection error means on the table, in its middle."""
        low, high = np.array(self.box_low_m), np.array(self.box_high_m)
        return self.error_px * self.camera.metres_per_px((low + high) / 2)

    def check_image(self, image: np.ndarray) -> None:
        """Raises RobotFault where an image [Y, X, 3] is not of the calibrated size."""
        wanted = (self.camera.height_px, self.camera.width_px, 3)
        if image.shape != wanted:
            raise RobotFault(
                "calibration_size",
                f"camera {self.camera_name} gives images {image.shape}, the calibration is for "
                f"{wanted}: calibrate again at this size",
            )


def _check_size(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < 1:
            unit = "square metres" if name.endswith("_m2") else "metres"
            raise CalibrationError(
                f"{name} must be between 0 and 1, got {value}: it is in {unit}, of something that "
                "fits a gripper or lies before it"
            )
