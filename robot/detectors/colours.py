"""Colours that stay themselves in light and shade.

A colour is the pair (a*, b*) / (L* + 16) of CIELAB. Dimming the light scales L* + 16, a* and b*
alike, so the pair stays where it is; grey of any brightness is at the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from robot.camera_model import CalibrationError

MIN_PATCH_PX = 9
_FLOOR = 0.09
"""Least standard deviation of a colour: cameras and lamps drift by more than one patch shows."""
_REACH = 4.0
"""Standard deviations up to which a pixel has the colour."""
_MIN_SATURATION = 0.25
_DARKEST = 0.4
"""A pixel darker than this part of the darkest of the patch has no colour to speak of."""


@dataclass(frozen=True, kw_only=True)
class ColourModel:
    """One colour as a Gaussian in the plane of the module's docstring."""

    mean: tuple[float, float]
    covariance: tuple[float, float, float]
    """Of the first with itself, of both, of the second with itself."""
    min_lightness: float
    """Least L*, 0 .. 100."""

    def __post_init__(self) -> None:
        first, both, second = self.covariance
        if not all(math.isfinite(n) for n in (*self.mean, *self.covariance, self.min_lightness)):
            raise CalibrationError("a colour's numbers must be finite")
        if first <= 0 or second <= 0 or first * second - both * both <= 0:
            raise CalibrationError(f"covariance {self.covariance} is not one of a Gaussian")
        if not 0.0 <= self.min_lightness <= 100.0:
            raise CalibrationError(f"min_lightness must be 0 .. 100, got {self.min_lightness}")

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Returns where an RGB image has the colour. uint8 [Y, X, 3] -> bool [Y, X]"""
        pair, lightness = _colour_plane(image)
        first, both, second = self.covariance
        x, y = pair[..., 0] - self.mean[0], pair[..., 1] - self.mean[1]
        determinant = first * second - both * both
        distance2 = (second * x * x - 2 * both * x * y + first * y * y) / determinant
        return (distance2 <= _REACH**2) & (lightness >= self.min_lightness)


def learn_colour(image: np.ndarray, patch: np.ndarray) -> ColourModel:
    """Returns the colour of the marked pixels.

    Args:
        image: RGB, uint8. [Y, X, 3]
        patch: Which pixels show the colour. bool [Y, X]

    Raises:
        CalibrationError: Too few pixels, or they are nearly grey and would be found everywhere.
    """
    if int(patch.sum()) < MIN_PATCH_PX:
        raise CalibrationError(f"a patch needs {MIN_PATCH_PX} pixels, got {int(patch.sum())}")
    pair, lightness = _colour_plane(image)
    pairs, light = pair[patch].astype(np.float64), lightness[patch]
    mean = np.median(pairs, axis=0)
    if float(np.hypot(*mean)) < _MIN_SATURATION:
        raise CalibrationError(
            f"the marked patch is nearly grey ({mean[0]:.2f}, {mean[1]:.2f}): mark a coloured part"
        )
    covariance = np.cov((pairs - mean).T) + _FLOOR**2 * np.eye(2)
    return ColourModel(
        mean=(float(mean[0]), float(mean[1])),
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
        min_lightness=_DARKEST * float(np.percentile(light, 2)),
    )


def disc(shape: tuple[int, int], column_px: float, row_px: float, radius_px: float) -> np.ndarray:
    """Returns the pixels within a radius of a place. bool [Y, X]"""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (columns - column_px) ** 2 + (rows - row_px) ** 2 <= radius_px**2


def _colour_plane(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    lightness = lab[..., 0]
    return lab[..., 1:] / (lightness[..., None] + 16.0), lightness
