"""Reach, judged from the camera: the held object above the target."""

from __future__ import annotations

from collections import deque

import numpy as np

from robot.calibration import Calibration
from robot.camera_model import CalibrationError
from robot.detectors.detector import Detector
from robot.detectors.held import HeldView, look_for_held
from robot.detectors.target import TargetMemory
from robot.detectors.verdict import Verdict, sureness
from robot.interfaces import ArmState, Frame
from robot.rewards import SUCCESS

_LEAST_SIGMA_M = 0.0015
_HIDDEN_SIGMA_M = 0.02
"""What a target seen in no part would be uncertain by; a part in view is better in proportion."""
_UNSEEN_SIGMA_M = 0.005
"""What the object is uncertain by where only the tool says where it is."""
_DOUBT = 0.5
"""Greatest confidence where it may be another thing, or may not be there at all."""
_GONE_LOOKS = 3
"""Looks in a row without a trace of the object after which it is not held any more."""
_NUM_OFFSETS = 15


class ReachDetector(Detector):
    """1 while the held object is above the target, else 0; from frames and the arm's state.

    The object is looked for where the tool is. In clear view it shows how it sits in the gripper,
    and that is remembered for the trial, as is the target's place: either may be hidden later.

    Args:
        calibration: Of the camera, the object and the target.
        tolerance_m: Greatest distance in the table's plane that counts.
    """

    def __init__(self, calibration: Calibration, tolerance_m: float) -> None:
        if calibration.target is None:
            raise CalibrationError("the calibration has no target: calibrate for reach")
        super().__init__(calibration)
        self._tolerance_m = tolerance_m
        self._target = TargetMemory(calibration, calibration.target)
        self._offsets_m: deque[np.ndarray] = deque(maxlen=_NUM_OFFSETS)
        self._num_gone = 0

    def _forget(self) -> None:
        self._target.forget()
        self._offsets_m.clear()
        self._num_gone = 0

    def _look(self, frame: Frame, state: ArmState) -> Verdict:
        del state
        tool_m = self._track.at(frame.t_ns)
        self._target.look(frame.image)
        mask = self._calibration.held.colour.mask(frame.image)
        middle_m = tool_m + np.array(self._calibration.held.centre_from_tool_m)
        view = look_for_held(self._calibration, mask, middle_m)
        self._num_gone = 0 if view is not None else self._num_gone + 1
        return self._decide(middle_m, view)

    def _decide(self, middle_m: np.ndarray, view: HeldView | None) -> Verdict:
        held_m, held_sigma_m = self._held(middle_m, view)
        best = self._target.best
        if best is None:
            return Verdict(
                reward=0.0, confidence=0.0, reason="target not seen yet", held_m=_tuple(held_m)
            )
        target_sigma_m = _LEAST_SIGMA_M + _HIDDEN_SIGMA_M * (1.0 - best.share)
        x, y = (float(n) for n in best.place_m)
        if self._num_gone >= _GONE_LOOKS:
            return Verdict(reward=0.0, confidence=_DOUBT, reason="nothing held", target_m=(x, y))
        distance_m = float(np.hypot(*(held_m[:2] - best.place_m)))
        margin_m = self._tolerance_m - distance_m
        sigma_m = float(np.sqrt(target_sigma_m**2 + held_sigma_m**2))
        return Verdict(
            reward=SUCCESS if margin_m >= 0 else 0.0,
            confidence=min(sureness(margin_m, sigma_m), _DOUBT if best.is_ambiguous else 1.0),
            reason=f"{1e3 * distance_m:.1f} mm from the target",
            held_m=_tuple(held_m),
            target_m=(x, y),
        )

    def _held(self, middle_m: np.ndarray, view: HeldView | None) -> tuple[np.ndarray, float]:
        """Returns the middle of the object [3] and its standard deviation."""
        camera = self._calibration.camera
        if view is not None and view.is_clear and camera.looks_down(view.pixel[None]):
            seen_m = camera.on_plane(view.pixel[None], float(middle_m[2]))[0]
            self._offsets_m.append(seen_m - middle_m)
        sigma_m = max(_LEAST_SIGMA_M, self._calibration.error_m)
        if not self._offsets_m:
            return middle_m, _UNSEEN_SIGMA_M
        return middle_m + np.median(np.array(self._offsets_m), axis=0), sigma_m


def _tuple(point_m: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(n) for n in point_m)
    return x, y, z
