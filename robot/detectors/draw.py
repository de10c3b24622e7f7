"""Pictures of what calibration and detectors see, for a person to check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from robot.calibrating import Fit, Mark
from robot.calibration import Calibration
from robot.detectors.verdict import Verdict

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
SEEN: Colour = (255, 210, 0)
DRAWN: Colour = (0, 150, 60)
TARGET: Colour = (0, 220, 255)
TRUE: Colour = (255, 0, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE_PX = 17
_ERROR_SCALE = 20.0
_RULER_PX = 20
_MARGIN_PX = 26


def save(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image as a picture; the kind follows from the name. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1])):
        raise OSError(f"{path}: the picture cannot be written")


def caption(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Returns the image with lines of text below it."""
    band = np.full((_LINE_PX * len(lines) + 6, image.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(lines, start=1):
        place = (4, _LINE_PX * number - 3)
        cv2.putText(band, line, place, _FONT, 0.42, BLACK, 1, cv2.LINE_AA)
    return np.vstack([image, band])


def with_rulers(image: np.ndarray, zoom: int = 3) -> np.ndarray:
    """Returns the image enlarged, with columns and rows numbered: where a person reads marks."""
    large = _enlarged(image, zoom)
    height, width = large.shape[:2]
    framed = np.full((height + _MARGIN_PX, width + _MARGIN_PX, 3), 255, np.uint8)
    framed[_MARGIN_PX:, _MARGIN_PX:] = large
    for pixel in range(0, image.shape[1], _RULER_PX):
        column = _MARGIN_PX + pixel * zoom
        cv2.line(framed, (column, _MARGIN_PX - 5), (column, _MARGIN_PX), BLACK, 1)
        cv2.putText(framed, str(pixel), (column - 8, 15), _FONT, 0.35, BLACK, 1, cv2.LINE_AA)
    for pixel in range(0, image.shape[0], _RULER_PX):
        row = _MARGIN_PX + pixel * zoom
        cv2.line(framed, (_MARGIN_PX - 5, row), (_MARGIN_PX, row), BLACK, 1)
        cv2.putText(framed, str(pixel), (1, row + 4), _FONT, 0.3, BLACK, 1, cv2.LINE_AA)
    return framed


def draw_marks(image: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Returns a copy of the image with the marked patches circled."""
    drawn = image.copy()
    for mark in marks:
        centre = (round(mark.column_px), round(mark.row_px))
        cv2.circle(drawn, centre, round(mark.radius_px) + 1, WHITE, 1)
    return drawn


def draw_fit(image: np.ndarray, fit: Fit, zoom: int = 3) -> np.ndarray:
    """Returns the image with the box, the grid and the reprojection errors, 20 times enlarged."""
    calibration = fit.calibration
    drawn = draw_box(_enlarged(image, zoom), calibration, zoom)
    if calibration.target is not None and fit.target_m is not None:
        half_m = calibration.target.side_m / 2
        low_m, high_m = fit.target_m - half_m, fit.target_m + half_m
        _outline(drawn, calibration, (low_m, high_m), TARGET, zoom)
    for seen, calculated in zip(fit.seen_px, fit.drawn_px, strict=True):
        start = _at(seen, zoom)
        error = _at(seen + _ERROR_SCALE * (calculated - seen), zoom)
        cv2.circle(drawn, start, 3, SEEN, -1, cv2.LINE_AA)
        cv2.line(drawn, start, error, DRAWN, 1, cv2.LINE_AA)
    errors = fit.errors_px
    return caption(
        drawn,
        [
            f"yellow: object seen at {len(errors)} tool positions; green: error x {_ERROR_SCALE:g}",
            f"reprojection error {calibration.error_px:.2f} px rms, {errors.max():.2f} px at most; "
            "white: box on the table",
            *([] if fit.target_m is None else ["cyan: a square as large as the target was seen"]),
        ],
    )


def draw_box(image: np.ndarray, calibration: Calibration, zoom: int) -> np.ndarray:
    """Returns a copy of the enlarged image with the outline of the box on the table."""
    drawn = image.copy()
    _outline(drawn, calibration, (calibration.box_low_m, calibration.box_high_m), WHITE, zoom)
    return drawn


def draw_verdict(
    image: np.ndarray,
    calibration: Calibration,
    verdict: Verdict,
    *,
    true_held_m: np.ndarray | None = None,
    true_target_m: np.ndarray | None = None,
    zoom: int = 2,
) -> np.ndarray:
    """Returns the image with what a detector saw, and where things really were.

    Args:
        image: The camera's frame. [Y, X, 3]
        calibration: Of that camera.
        verdict: What was said of it.
        true_held_m: Where the object's middle was, None where nobody knows. [3]
        true_target_m: Where the target's centre was. [3]
        zoom: Enlargement.
    """
    drawn = draw_box(_enlarged(image, zoom), calibration, zoom)
    marks: list[tuple[np.ndarray, Colour, int]] = []
    if verdict.held_m is not None:
        marks.append((np.array(verdict.held_m), SEEN, cv2.MARKER_CROSS))
    if verdict.target_m is not None:
        marks.append((np.array([*verdict.target_m, 0.0]), TARGET, cv2.MARKER_CROSS))
    for point_m in (true_held_m, true_target_m):
        if point_m is not None:
            marks.append((point_m, TRUE, cv2.MARKER_TILTED_CROSS))
    for point_m, colour, kind in marks:
        place = _at(calibration.camera.project(point_m[None])[0], zoom)
        cv2.drawMarker(drawn, place, colour, kind, 12, 1, cv2.LINE_AA)
    return drawn


def tiled(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Returns images of one size side by side, in rows of so many."""
    blank = np.full_like(tiles[0], 255)
    padded = [*tiles, *([blank] * (-len(tiles) % columns))]
    rows = [np.hstack(padded[k : k + columns]) for k in range(0, len(padded), columns)]
    return np.vstack(rows)


def _enlarged(image: np.ndarray, zoom: int) -> np.ndarray:
    return np.repeat(np.repeat(image, zoom, axis=0), zoom, axis=1)


def _outline(
    drawn: np.ndarray,
    calibration: Calibration,
    corners_m: tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray],
    colour: Colour,
    zoom: int,
) -> None:
    """Draws the rectangle on the table between two opposite corners."""
    (x0, y0), (x1, y1) = corners_m[0][:2], corners_m[1][:2]
    flat_m = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]], np.float64)
    outline = [_at(pixel, zoom) for pixel in calibration.camera.project(flat_m)]
    cv2.polylines(drawn, [np.array(outline)], True, colour, 1, cv2.LINE_AA)  # noqa: FBT003 - cv2


def _at(pixel: np.ndarray, zoom: int) -> tuple[int, int]:
    # The middle of a pixel of the camera, in the enlarged image.
    column, row = (float(n) * zoom + (zoom - 1) / 2 for n in pixel)
    return round(column), round(row)
