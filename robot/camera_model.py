"""Where a camera stands and how it draws: points of the base frame to pixels, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_HORIZON = -1e-6
"""Upward part of a unit direction from which on it meets no plane below."""


class CalibrationError(ValueError):
    """A calibration cannot be made or used; the message says what was expected."""


@dataclass(frozen=True, kw_only=True)
class CameraModel:
    """A pinhole camera with lens distortion, fixed in the base frame.

    Pixels are (column, row); the middle of the first pixel is (0, 0).
    """

    width_px: int
    height_px: int
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3 of the Brown-Conrady model."""
    rotation_rad: tuple[float, float, float]
    """Rotation vector from the base frame to the camera's: x right, y down, z forward."""
    translation_m: tuple[float, float, float]
    """Origin of the base frame, seen from the camera."""

    def __post_init__(self) -> None:
        if self.width_px < 8 or self.height_px < 8:
            raise CalibrationError(f"image size {self.width_px} x {self.height_px} is too small")
        numbers = (
            *self.focal_px,
            *self.centre_px,
            *self.distortion,
            *self.rotation_rad,
            *self.translation_m,
        )
        if not all(math.isfinite(number) for number in numbers) or min(self.focal_px) <= 0:
            raise CalibrationError(f"camera numbers must be finite, focal_px positive: {numbers}")

    @property
    def matrix(self) -> np.ndarray:
        """The camera matrix. [3, 3]"""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    @property
    def position_m(self) -> np.ndarray:
        """Where the camera is, base frame. [3]"""
        return -self._rotation().T @ np.array(self.translation_m)

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """Returns the pixels of points. [N, 3] -> [N, 2]"""
        pixels, _ = cv2.projectPoints(
            np.asarray(points_m, np.float64).reshape(-1, 1, 3),
            np.array(self.rotation_rad),
            np.array(self.translation_m),
            self.matrix,
            np.array(self.distortion),
        )
        return pixels.reshape(-1, 2)

    def depth_m(self, point_m: np.ndarray) -> float:
        """Returns how far in front of the camera a point is. [3]"""
        return float((self._rotation() @ np.asarray(point_m) + np.array(self.translation_m))[2])

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the unit directions, base frame, in which pixels look. [N, 2] -> [N, 3]"""
        flat = cv2.undistortPoints(
            np.asarray(pixels, np.float64).reshape(-1, 1, 2),
            self.matrix,
            np.array(self.distortion),
        ).reshape(-1, 2)
        rays = np.column_stack([flat, np.ones(len(flat))]) @ self._rotation()
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def looks_down(self, pixels: np.ndarray) -> bool:
        """Whether every pixel looks below the horizon, as `on_plane` needs it. [N, 2]"""
        return bool(np.all(self.rays(pixels)[:, 2] < _HORIZON))

    def on_plane(self, pixels: np.ndarray, height_m: float) -> np.ndarray:
        """Returns where pixels look at the level plane of a height. [N, 2] -> [N, 3]

        Raises:
            CalibrationError: A pixel looks at or above the horizon; ask `looks_down` first.
        """
        origin, rays = self.position_m, self.rays(pixels)
        if np.any(rays[:, 2] >= _HORIZON):
            raise CalibrationError("the camera does not look down on the table")
        return origin + rays * ((height_m - origin[2]) / rays[:, 2:3])

    def height_above(self, pixel: np.ndarray, x_m: float, y_m: float) -> tuple[float, float]:
        """Returns the height on the vertical through (x, y) nearest to what a pixel sees.

        Args:
            pixel: Where something is in the image. [2]
            x_m: Of the vertical, base frame.
            y_m: Of the vertical, base frame.

        Returns:
            The height, and the distance between the vertical and the pixel's ray, in metres.
        """
        origin, ray = self.position_m, self.rays(np.asarray(pixel).reshape(1, 2))[0]
        apart = np.array([x_m, y_m, 0.0]) - origin
        # Both lines at their nearest: origin + s ray and (x, y, h), ray of length one.
        level = 1.0 - ray[2] ** 2
        if level < 1e-9:
            raise CalibrationError("the camera looks straight along the vertical")
        along = float(apart[:2] @ ray[:2]) / level
        height_m = float(origin[2] + along * ray[2])
        miss = origin[:2] + along * ray[:2] - np.array([x_m, y_m])
        return height_m, float(np.hypot(*miss))

    def metres_per_px(self, point_m: np.ndarray) -> float:
        """Returns how much of a surface that faces the camera one pixel covers at a point. [3]"""
        return self.depth_m(point_m) / math.sqrt(self.focal_px[0] * self.focal_px[1])

    def _rotation(self) -> np.ndarray:
        return cv2.Rodrigues(np.array(self.rotation_rad))[0]


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """What is known of a lens beforehand, as the camera's maker measured it."""

    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)


MIN_POINTS = 8
_FREE_LENS = (
    cv2.CALIB_USE_INTRINSIC_GUESS
    | cv2.CALIB_FIX_PRINCIPAL_POINT
    | cv2.CALIB_FIX_ASPECT_RATIO
    | cv2.CALIB_ZERO_TANGENT_DIST
    | cv2.CALIB_FIX_K1
    | cv2.CALIB_FIX_K2
    | cv2.CALIB_FIX_K3
)


def fit_camera(
    points_m: np.ndarray,
    pixels: np.ndarray,
    size_px: tuple[int, int],
    intrinsics: Intrinsics | None = None,
) -> CameraModel:
    """Returns the camera that draws known points where they were seen, by least squares.

    Args:
        points_m: Base frame; they must fill a volume, not a plane, if the lens is unknown. [N, 3]
        pixels: Where each was seen, column and row. [N, 2]
        size_px: Width and height of the image.
        intrinsics: Of the lens. None finds the focal length too, for square pixels, the optical
            axis in the middle of the image and no distortion.

    Raises:
        CalibrationError: Too few points, or points from which no pose follows.
    """
    points = np.asarray(points_m, np.float64).reshape(-1, 3)
    seen = np.asarray(pixels, np.float64).reshape(-1, 2)
    if len(points) != len(seen) or len(points) < MIN_POINTS:
        raise CalibrationError(f"need {MIN_POINTS} points seen, got {len(seen)}")
    spread_m = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / math.sqrt(
        len(points)
    )
    if spread_m[1] < 0.01 or (intrinsics is None and spread_m[2] < 0.005):
        raise CalibrationError(
            "the points must spread over an area, and over several heights if the lens is unknown"
        )
    width, height = size_px
    if intrinsics is None:
        guess = np.array([[1.5 * width, 0, (width - 1) / 2], [0, 1.5 * width, (height - 1) / 2]])
        _, matrix, _, turns, moves = cv2.calibrateCamera(
            [points.astype(np.float32)],
            [seen.astype(np.float32)],
            (width, height),
            np.vstack([guess, [0, 0, 1]]),
            np.zeros(5),
            flags=_FREE_LENS,
        )
        lens = Intrinsics(
            focal_px=(float(matrix[0, 0]), float(matrix[1, 1])),
            centre_px=(float(matrix[0, 2]), float(matrix[1, 2])),
        )
        turn, move = turns[0].ravel(), moves[0].ravel()
    else:
        lens = intrinsics
        matrix = np.array(
            [[lens.focal_px[0], 0, lens.centre_px[0]], [0, lens.focal_px[1], lens.centre_px[1]]]
        )
        is_found, turn, move = cv2.solvePnP(
            points, seen, np.vstack([matrix, [0, 0, 1]]), np.array(lens.distortion)
        )
        if not is_found:
            raise CalibrationError("no camera pose fits the points seen")
    return CameraModel(
        width_px=width,
        height_px=height,
        focal_px=lens.focal_px,
        centre_px=lens.centre_px,
        distortion=lens.distortion,
        rotation_rad=_three(turn),
        translation_m=_three(move),
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in np.ravel(values))
    return x, y, z
