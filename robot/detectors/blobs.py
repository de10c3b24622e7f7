"""Connected patches of one colour in an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One connected patch."""

    centroid_px: np.ndarray
    """Column and row, to a fraction of a pixel. [2]"""
    area_px: int
    touches_border: bool
    """It may go on outside the image."""
    mask: np.ndarray
    """Its pixels. bool [Y, X]"""

    def share_within(self, region: np.ndarray) -> float:
        """Returns which part of it lies in a region. bool [Y, X]"""
        return float(np.count_nonzero(self.mask & region)) / self.area_px


def find_blobs(mask: np.ndarray, min_area_px: float) -> list[Blob]:
    """Returns the connected patches of at least an area, the largest first. bool [Y, X]"""
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    height, width = mask.shape
    blobs: list[Blob] = []
    for label in range(1, count):
        left, top, wide, high, area = (int(n) for n in stats[label])
        if area >= min_area_px:
            blobs.append(
                Blob(
                    centroid_px=centroids[label],
                    area_px=area,
                    touches_border=left == 0
                    or top == 0
                    or left + wide == width
                    or top + high == height,
                    mask=labels == label,
                )
            )
    return sorted(blobs, key=lambda blob: -blob.area_px)
