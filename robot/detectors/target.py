"""The flat target on the table: where it is, also while the gripper hides it.

Any patch of its colour on the table may be the target or a lookalike. Until most of the target has
been seen, the patch whose size fits best is taken for it. From then on it is where it was: it does
not move in a trial, and what shows up elsewhere is something else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from robot.calibration import Calibration, TargetModel
from robot.detectors.blobs import Blob, find_blobs

_MIN_SHARE = 0.1
_MAX_SHARE = 1.5
"""A blob much larger than the target is not the target."""
_SAME_SHARE = 0.03
_WELL_SEEN = 0.7
"""A view of this share shows the place to some millimetres (`robot.detectors.reach` has the
figures), so that patches elsewhere can be told from it."""
_SAME_PLACE_M = 0.03
"""Further off than this is another thing. A target of some centimetres that is half hidden seems
to have moved by a quarter of its side, which is less."""
_RIVAL_SHARE = 0.5
"""A second patch that fits more than half as well as the chosen one may as well be the target."""
_TABLE_M = 0.0
_OUTSIDE_M = 0.05
"""The target may lie this far outside the box of the tool."""


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """Where the target is, and how much of it was seen when that was found out."""

    place_m: np.ndarray
    """Its centre on the table, base frame. [2]"""
    share: float
    """Seen area as a part of the whole; of a patch larger than that, the whole as a part of the
    patch. 0 .. 1."""
    is_ambiguous: bool = False
    """Something else in the image could have been the target as well."""


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
        # Views not much worse than the best replace it; against the peak, they do not wear it down.
        self._peak_share = 0.0

    @property
    def best(self) -> TargetView | None:
        """The best view so far, or None."""
        return self._best

    def forget(self) -> None:
        """Starts a trial."""
        self._best, self._peak_share = None, 0.0

    def look(self, image: np.ndarray) -> TargetView | None:
        """Returns the target in an image, None where it is hidden; the best view is kept."""
        view = self._view(self._target.colour.mask(image))
        if view is not None and view.share >= self._peak_share - _SAME_SHARE:
            self._best, self._peak_share = view, max(view.share, self._peak_share)
        return view

    def _view(self, mask: np.ndarray) -> TargetView | None:
        blobs = find_blobs(mask, min_area_px=4)
        found = [view for view in map(self._plausible, blobs) if view is not None]
        best = self._best if self._peak_share >= _WELL_SEEN else None
        if best is None:
            chosen = max(found, key=lambda view: view.share, default=None)
        else:
            chosen = min(found, key=lambda view: _apart_m(view, best), default=None)
            if chosen is not None and _apart_m(chosen, best) > _SAME_PLACE_M:
                return None
        if chosen is None:
            return None
        # A place that was told without a rival stays so, whatever comes later.
        is_settled = best is not None and not best.is_ambiguous
        has_rival = any(v is not chosen and v.share > _RIVAL_SHARE * chosen.share for v in found)
        return replace(chosen, is_ambiguous=has_rival and not is_settled)

    def _plausible(self, blob: Blob) -> TargetView | None:
        if not self._camera.looks_down(blob.centroid_px[None]):
            return None  # behind the table, as a shirt of the target's colour is
        place_m = self._camera.on_plane(blob.centroid_px[None], _TABLE_M)[0]
        if np.any(place_m[:2] < self._low) or np.any(place_m[:2] > self._high):
            return None
        share = blob.area_px / self._whole_px(place_m)
        if not _MIN_SHARE <= share <= _MAX_SHARE:
            return None
        return TargetView(place_m=place_m[:2], share=min(share, 1.0 / share))

    def _whole_px(self, place_m: np.ndarray) -> float:
        half = self._target.side_m / 2
        corners = place_m + half * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
        return float(cv2.contourArea(self._camera.project(corners).astype(np.float32)))


def _apart_m(one: TargetView, other: TargetView) -> float:
    return float(np.hypot(*(one.place_m - other.place_m)))
