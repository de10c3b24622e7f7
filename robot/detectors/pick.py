"""Pick, judged from the camera: the object between the fingers, and lifted."""

from __future__ import annotations

import math

import numpy as np

from robot.calibration import Calibration
from robot.detectors.detector import Detector
from robot.detectors.held import FAR_M, look_for_held
from robot.detectors.verdict import Verdict, sureness
from robot.interfaces import ArmState, Frame
from robot.rewards import SUCCESS

GRASPED = 0.5
_LEAST_SIGMA_M = 0.0025
_EASED = 0.01
"""The fingers open this much further at most, and still touch what they were stopped by."""
_TOUCH_SURENESS = 0.9
_NEAR_OPENING = 0.15
_DOUBT = 0.5
"""Fingers this near to the object's width may touch it before the arm tells."""
MIN_LIFT_M = FAR_M + 0.01
"""Lifted less, an object that has stayed on the table would be taken for one that is carried; with
what a view may be off by."""
_NEAR_TABLE_M = 0.03
"""A grip that begins with the tool this far above the object's top or lower holds it standing."""


class PickDetector(Detector):
    """1 while the object is held above a height, 0.5 while it is grasped below, else 0.

    Grasped is: something stops the fingers, and the object is seen where the tool is. How it sits
    between the fingers shows when the grip begins, with the object still on the table. From then on
    the tool carries it, and it has to be seen where that puts it; otherwise it has slipped out.

    Args:
        calibration: Of the camera and the object.
        lift_height_m: How far above where it stood counts as lifted.

    Raises:
        ValueError: An object that stays on the table could not be told from one lifted so little.
    """

    def __init__(self, calibration: Calibration, lift_height_m: float) -> None:
        if not lift_height_m >= MIN_LIFT_M:
            raise ValueError(
                f"lift_height_m must be at least {MIN_LIFT_M:g} m for the camera to tell an object "
                f"that is lifted from one that is left behind, got {lift_height_m:g}"
            )
        super().__init__(calibration)
        self._lift_height_m = lift_height_m
        self._touch_opening: float | None = None
        self._offset_m: np.ndarray | None = None

    def _forget(self) -> None:
        self._touch_opening = self._offset_m = None

    def _look(self, frame: Frame, state: ArmState) -> Verdict:
        self._feel(state)
        if self._touch_opening is None:
            self._offset_m = None
            is_near = abs(state.gripper_opening - self._calibration.held.opening) < _NEAR_OPENING
            return Verdict(
                reward=0.0,
                confidence=_DOUBT if is_near else _TOUCH_SURENESS,
                reason="nothing stops the fingers",
            )
        mask = self._calibration.held.colour.mask(frame.image)
        return self._carried(self._track.at(frame.t_ns), mask)

    def _feel(self, state: ArmState) -> None:
        """Keeps the opening at which something stops the fingers, or None."""
        if state.is_gripper_stuck:
            self._touch_opening = state.gripper_opening
        elif (
            self._touch_opening is not None and state.gripper_opening > self._touch_opening + _EASED
        ):
            self._touch_opening = None

    def _carried(self, tool_m: np.ndarray, mask: np.ndarray) -> Verdict:
        """Returns the verdict while something is between the fingers."""
        held, camera = self._calibration.held, self._calibration.camera
        standing_m = held.height_m / 2
        is_low = float(tool_m[2]) <= held.height_m + _NEAR_TABLE_M
        offset_m = self._offset_m
        if offset_m is not None:
            middle_m = tool_m + offset_m
        elif is_low:
            middle_m = np.array([tool_m[0], tool_m[1], standing_m])
        else:
            middle_m = tool_m + np.array(held.centre_from_tool_m)
        view = look_for_held(self._calibration, mask, middle_m)
        if view is None or (offset_m is None and not camera.looks_down(view.pixel[None])):
            return Verdict(reward=0.0, confidence=_TOUCH_SURENESS, reason="object not at the tool")
        if offset_m is None:
            seen_m = camera.on_plane(view.pixel[None], float(middle_m[2]))[0]
            if float(np.hypot(*(seen_m - tool_m)[:2])) > FAR_M:
                return Verdict(reward=0.0, confidence=_DOUBT, reason="object beside the fingers")
            offset_m = self._offset_m = seen_m - tool_m
            middle_m = seen_m
        height_m, miss_m = camera.height_above(view.pixel, float(middle_m[0]), float(middle_m[1]))
        gap_m = math.hypot(height_m - float(middle_m[2]), miss_m)
        if gap_m > FAR_M:
            return Verdict(
                reward=0.0,
                confidence=sureness(gap_m - FAR_M, FAR_M / 3),
                reason=f"object seen {1e3 * gap_m:.0f} mm from where the tool would carry it",
            )
        lift_m = float(middle_m[2]) - standing_m
        margin_m = lift_m - self._lift_height_m
        return Verdict(
            reward=SUCCESS if margin_m >= 0 else GRASPED,
            confidence=_TOUCH_SURENESS * sureness(margin_m, _LEAST_SIGMA_M + gap_m / 2),
            reason=f"lifted {1e3 * lift_m:.0f} mm",
            held_m=(float(middle_m[0]), float(middle_m[1]), float(middle_m[2])),
        )
