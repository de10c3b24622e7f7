"""The flat target on the table: where it is, also while the gripper hides it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from robot.calibration import Calibration, TargetModel
from robot.detectors.blobs import Blob, find_blobs

_MIN_SHARE = 0.1
_MAX_SHARE = 1.5
"""A blob much larger than the target is not the target."""
_SAME_SHARE = 0.03
_TABLE_M = 0.0
_OUTSIDE_M = 0.05
"""The target may lie this far outside the box of the tool."""


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """Where the target is, and how much of it was seen when that was found out."""

    place_m: np.ndarray
    """Its centre on the table, base frame. [2]"""
    share: float
    """Seen area as a part of the whole, 0 .. 1."""


class TargetMemory:
    """The best view of the target in this trial. It does not move in a trial.

    Args:
        calibration: Of the camera and the workspace.
        target: What to look for.
    """

    def __init__(self, calibration: Calibration, target: TargetModel) -> None:
        self._camera = calibration.camera
        self._target = target
        self._low = np.array(calibration.box_low_m[:2]) - _OUTSIDE_M
        self._high = np.array(calibration.box_high_m[:2]) + _OUTSIDE_M
        self._best: TargetView | None = None

    @property
    def best(self) -> TargetView | None:
        """The best view so far, or None."""
        return self._best

    def forget(self) -> None:
        """Starts a trial."""
        self._best = None

    def look(self, image: np.ndarray) -> TargetView | None:
        """Returns the target in an image, None where it is hidden; the best view is kept."""
        view = self._view(self._target.colour.mask(image))
        if view is not None and (
            self._best is None or view.share >= self._best.share - _SAME_SHARE
        ):
            self._best = view
        return view

    def _view(self, mask: np.ndarray) -> TargetView | None:
        for blob in find_blobs(mask, min_area_px=4):
            view = self._plausible(blob)
            if view is not None:
                return view
        return None

    def _plausible(self, blob: Blob) -> TargetView | None:
        if not self._camera.looks_down(blob.centroid_px[None]):
            return None  # behind the table, as a shirt of the target's colour is
        place_m = self._camera.on_plane(blob.centroid_px[None], _TABLE_M)[0]
        if np.any(place_m[:2] < self._low) or np.any(place_m[:2] > self._high):
            return None
        share = blob.area_px / self._whole_px(place_m)
        if not _MIN_SHARE <= share <= _MAX_SHARE:
            return None
        return TargetView(place_m=place_m[:2], share=min(share, 1.0))

    def _whole_px(self, place_m: np.ndarray) -> float:
        half = self._target.side_m / 2
        corners = place_m + half * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
        return float(cv2.contourArea(self._camera.project(corners).astype(np.float32)))
