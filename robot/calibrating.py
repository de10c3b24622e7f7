"""Finds a calibration from views of the carried object (`robot.calibration_views`).

The scale comes from the arm's measured positions; what a ruler says is how tall the object is, how
far below the tool its middle sits, and how large the target is, to check what is seen of it.
Colours are learned from patches that a person marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot.calibration import Calibration, HeldModel, TargetModel
from robot.calibration_views import View
from robot.camera_model import CalibrationError, CameraModel, Intrinsics, fit_camera
from robot.detectors.blobs import Blob, find_blobs
from robot.detectors.colours import ColourModel, disc, learn_colour

_MIN_BLOB_PX = 20
_MAX_JUMP = 1.6
"""A view whose blob is this much larger or smaller than most shows something else, or not all."""
_MAX_ERROR_PX = 3.0
"""A fit worse than this is of no use: something else than the object was followed."""
_MAX_SIDE_OFF = 0.15
"""A target seen so much smaller or larger than the ruler says is hidden in part, or grown into
something else. A quarter hidden makes the side 13 % smaller."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A patch of the first picture that shows the colour of an object."""

    column_px: float
    row_px: float
    radius_px: float = 3.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(n) for n in (self.column_px, self.row_px, self.radius_px)):
            raise CalibrationError("a mark's numbers must be finite")
        if not self.radius_px >= 1.0:
            raise CalibrationError(f"radius_px must be at least 1, got {self.radius_px}")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A calibration with what it was found from."""

    calibration: Calibration
    tools_m: np.ndarray
    """Tool positions of the views in which all of the object is seen. [N, 3]"""
    seen_px: np.ndarray
    """Where it was seen. [N, 2]"""
    drawn_px: np.ndarray
    """Where the calibration draws it. [N, 2]"""
    target_m: np.ndarray | None
    """Where the target was found on the table, base frame; None where the task has none. [2]"""

    @property
    def errors_px(self) -> np.ndarray:
        """Distances between the two. [N]"""
        return np.linalg.norm(self.seen_px - self.drawn_px, axis=1)

    def summary(self) -> dict[str, object]:
        """Returns how good it is and where the camera stands, as plain JSON values."""
        calibration = self.calibration
        return {
            "num_views": calibration.num_views,
            "error_px": calibration.error_px,
            "max_error_px": float(self.errors_px.max()),
            "error_mm": 1e3 * calibration.error_m,
            "camera_m": [round(float(n), 4) for n in calibration.camera.position_m],
            "focal_px": list(calibration.camera.focal_px),
            "target_side_mm": None
            if calibration.target is None
            else 1e3 * calibration.target.side_m,
        }


def check_marks(first: np.ndarray, held_mark: Mark, target_mark: Mark | None) -> None:
    """Checks that objects can be told by their marks, before the arm goes to any trouble.

    Args:
        first: The picture that they are on. [Y, X, 3]
        held_mark: A patch of the object.
        target_mark: A patch of the target, None where the task has none.

    Raises:
        CalibrationError: A patch has no colour, or it is not of one whole thing.
    """
    _blob_of(first, held_mark, "held object")
    if target_mark is not None:
        _target_blob(first, target_mark)


def fit(
    views: Sequence[View],
    *,
    camera_name: str,
    camera_serial: str = "",
    held_mark: Mark,
    target_mark: Mark | None,
    centre_from_tool_m: tuple[float, float, float],
    held_height_m: float,
    box_low_m: tuple[float, float, float],
    box_high_m: tuple[float, float, float],
    intrinsics: Intrinsics | None = None,
    target_side_m: float | None = None,
) -> Fit:
    """Returns the calibration that follows from the views.

    Args:
        views: In the order they were taken; the marks are on the first.
        camera_name: Whose frames they are.
        camera_serial: The camera's serial number, empty where it has none.
        held_mark: A patch of the object.
        target_mark: A patch of the target, None where the task has none.
        centre_from_tool_m: The object's middle from the tool centre point, by the ruler.
        held_height_m: How tall the object is.
        box_low_m: Of the workspace.
        box_high_m: Of the workspace.
        intrinsics: Of the lens, None to find the focal length too.
        target_side_m: Of a square as large as the target, by the ruler; None to believe the view.

    Raises:
        CalibrationError: The object cannot be followed, no camera fits what was seen, or the target
            is not seen as large as it is.
    """
    if not views:
        raise CalibrationError("no views to calibrate from")
    first = views[0].frame.image
    height, width = first.shape[:2]
    # Learned again from all of the object: one patch shows one of its faces.
    whole = _blob_of(first, held_mark, "held object")
    colour = learn_colour(first, whole.mask)
    tools, blobs = _follow(views, colour, whole)
    points_m = tools + np.array(centre_from_tool_m)
    seen_px = np.array([blob.centroid_px for blob in blobs])
    camera = fit_camera(points_m, seen_px, (width, height), intrinsics)
    drawn_px = camera.project(points_m)
    error_px = float(np.sqrt(np.mean(np.sum((drawn_px - seen_px) ** 2, axis=1))))
    if not error_px <= _MAX_ERROR_PX:
        raise CalibrationError(
            f"the camera found is {error_px:.1f} pixels off: was the object's colour marked, and "
            "did it stay in the gripper?"
        )
    areas_m2 = [
        blob.area_px * camera.metres_per_px(point_m) ** 2
        for blob, point_m in zip(blobs, points_m, strict=True)
    ]
    target, target_m = None, None
    if target_mark is not None:
        target, target_m = _target(first, target_mark, camera)
        _check_side(target, target_side_m)
    return Fit(
        calibration=Calibration(
            camera_name=camera_name,
            camera_serial=camera_serial,
            camera=camera,
            held=HeldModel(
                colour=colour,
                centre_from_tool_m=centre_from_tool_m,
                area_m2=float(np.median(areas_m2)),
                height_m=held_height_m,
                opening=float(np.median([view.state.gripper_opening for view in views])),
            ),
            target=target,
            box_low_m=box_low_m,
            box_high_m=box_high_m,
            num_views=len(blobs),
            error_px=error_px,
        ),
        tools_m=tools,
        seen_px=seen_px,
        drawn_px=drawn_px,
        target_m=target_m,
    )


def _follow(
    views: Sequence[View], colour: ColourModel, whole: Blob
) -> tuple[np.ndarray, list[Blob]]:
    """Returns tool positions [N, 3] and blobs of the views that show all of the object."""
    tools: list[tuple[float, float, float]] = []
    blobs: list[Blob] = []
    here_px = whole.centroid_px
    for view in views:
        found = find_blobs(colour.mask(view.frame.image), _MIN_BLOB_PX)
        if not found:
            continue
        # A lookalike stands still, so the nearest to where it was last is the one that is carried.
        blob = min(found, key=lambda b: float(np.hypot(*(b.centroid_px - here_px))))
        here_px = blob.centroid_px
        if not blob.touches_border:
            tools.append(view.state.position_m)
            blobs.append(blob)
    usual_px = float(np.median([blob.area_px for blob in blobs])) if blobs else 0.0
    kept = [
        k
        for k, blob in enumerate(blobs)
        if usual_px / _MAX_JUMP <= blob.area_px <= usual_px * _MAX_JUMP
    ]
    return np.array([tools[k] for k in kept]).reshape(-1, 3), [blobs[k] for k in kept]


def _target(first: np.ndarray, mark: Mark, camera: CameraModel) -> tuple[TargetModel, np.ndarray]:
    """Returns the target and its place on the table [2]."""
    blob = _target_blob(first, mark)
    colour = learn_colour(first, blob.mask)
    # What one pixel covers of the table where the target lies.
    column, row = blob.centroid_px
    around = np.array([[column, row], [column + 1, row], [column, row + 1]])
    place_m, right_m, down_m = camera.on_plane(around, 0.0)[:, :2]
    across, along = right_m - place_m, down_m - place_m
    area_m2 = blob.area_px * abs(float(across[0] * along[1] - across[1] * along[0]))
    return TargetModel(colour=colour, side_m=math.sqrt(area_m2)), place_m


def _check_side(target: TargetModel, side_m: float | None) -> None:
    if side_m is not None and not abs(target.side_m / side_m - 1.0) <= _MAX_SIDE_OFF:
        raise CalibrationError(
            f"the target looks {1e3 * target.side_m:.0f} mm wide, by the ruler it is "
            f"{1e3 * side_m:.0f} mm: is it half hidden in first.png?"
        )


def _target_blob(first: np.ndarray, mark: Mark) -> Blob:
    blob = _blob_of(first, mark, "target")
    if blob.touches_border:
        raise CalibrationError(
            "the target reaches the border of the image and may go on beyond it: put it where all "
            "of it is seen"
        )
    return blob


def _blob_of(first: np.ndarray, mark: Mark, what: str) -> Blob:
    return _at_mark(_marked_colour(first, mark, what).mask(first), mark, what)


def _marked_colour(image: np.ndarray, mark: Mark, what: str) -> ColourModel:
    height, width = image.shape[:2]
    if not (0 <= mark.column_px < width and 0 <= mark.row_px < height):
        raise CalibrationError(f"the mark of the {what} is outside the {width} x {height} image")
    patch = disc((height, width), mark.column_px, mark.row_px, mark.radius_px)
    return learn_colour(image, patch)


def _at_mark(mask: np.ndarray, mark: Mark, what: str) -> Blob:
    # A mark within the last half pixel is rounded out of the image.
    height, width = mask.shape
    column, row = min(round(mark.column_px), width - 1), min(round(mark.row_px), height - 1)
    for blob in find_blobs(mask, _MIN_BLOB_PX):
        if blob.mask[row, column]:
            return blob
    raise CalibrationError(f"the {what} cannot be told from its surroundings by the marked colour")
