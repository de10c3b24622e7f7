"""The carried object in an image, told from a lookalike by where the arm has its tool."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot.calibration import Calibration
from robot.detectors.blobs import find_blobs
from robot.detectors.colours import disc

_MIN_SHARE = 0.15
"""Less of the object than this in view tells nothing."""
_CLEAR_SHARES = (0.4, 1.3)
"""A blob of this part of the expected area is the object alone, and most of it. Larger, and
something of the same colour has grown into it; smaller, and something is in front of it."""
_SEARCH_RADII = 1.6
"""How far from where the tool has it the object may appear, in its own radii."""
FAR_M = 0.03
"""An object further beside the tool than this, or further from where the tool has carried it, is
not between the fingers."""


@dataclass(frozen=True, kw_only=True)
class HeldView:
    """What an image shows where the tool holds, or would hold, the object."""

    pixel: np.ndarray
    """Middle of what is seen. [2]"""
    share: float
    """Its area as a part of the expected one."""
    is_clear: bool
    """Most of the object is seen, and nothing else of its colour with it; it may lie beside the
    place where it was looked for."""


def look_for_held(
    calibration: Calibration, colour_mask: np.ndarray, middle_m: np.ndarray
) -> HeldView | None:
    """Returns the object near where the arm has it, or None where nothing of its colour is there.

    Args:
        calibration: Of the camera and the object.
        colour_mask: Where the image has the object's colour. bool [Y, X]
        middle_m: Where its middle was when the image was taken, if it was held. [3]
    """
    held, camera = calibration.held, calibration.camera
    expected_px = held.area_m2 / camera.metres_per_px(middle_m) ** 2
    radius_px = math.sqrt(expected_px / math.pi)
    column, row = camera.project(middle_m[None])[0]
    near = disc(colour_mask.shape, column, row, _SEARCH_RADII * radius_px)
    blobs = find_blobs(colour_mask, _MIN_SHARE * expected_px)
    touching = [blob for blob in blobs if np.any(blob.mask & near)]
    if not touching:
        return None
    blob = min(touching, key=lambda b: float(np.hypot(*(b.centroid_px - (column, row)))))
    share = blob.area_px / expected_px
    low, high = _CLEAR_SHARES
    is_clear = low <= share <= high and not blob.touches_border
    if not is_clear and share > high:
        # Only the part of a grown blob that can be the object counts.
        part = blob.mask & near
        rows, columns = np.nonzero(part)
        return HeldView(
            pixel=np.array([columns.mean(), rows.mean()]),
            share=len(rows) / expected_px,
            is_clear=False,
        )
    return HeldView(pixel=blob.centroid_px, share=share, is_clear=is_clear)
