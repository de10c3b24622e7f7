"""Reach, judged from the camera: the held object above the target."""

from __future__ import annotations

from collections import deque

import numpy as np

from robot.calibration import Calibration
from robot.camera_model import CalibrationError
from robot.detectors.detector import Detector
from robot.detectors.held import FAR_M, HeldView, look_for_held
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
_ALONG_M = 2 * FAR_M
"""A tool that goes further with what it seems to have is not just passing it."""
_NUM_OFFSETS = 15


class ReachDetector(Detector):
    """1 while the held object is above the target, else 0; from frames and the arm's state.

    The object is looked for where the tool is. In clear view it shows how it sits in the gripper,
    and that is remembered for the trial, as is the target's place: either may be hidden later. In
    clear view elsewhere it has been dropped, until it is seen to go with the tool again. A camera
    that looks straight down sees no fall: what lies below the gripper looks held to it.

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
        self._is_dropped = False
        self._back_m: np.ndarray | None = None

    def _forget(self) -> None:
        self._target.forget()
        self._offsets_m.clear()
        self._num_gone, self._is_dropped, self._back_m = 0, False, None

    def _look(self, frame: Frame, state: ArmState) -> Verdict:
        del state
        tool_m = self._track.at(frame.t_ns)
        self._target.look(frame.image)
        mask = self._calibration.held.colour.mask(frame.image)
        middle_m = tool_m + np.array(self._calibration.held.centre_from_tool_m)
        view = look_for_held(self._calibration, mask, middle_m)
        self._num_gone = 0 if view is not None else self._num_gone + 1
        gap_m = self._compare(middle_m, view)
        if gap_m is not None and gap_m > FAR_M:
            return self._nothing(
                f"object seen {1e3 * gap_m:.0f} mm from where the tool would carry it",
                sureness(gap_m - FAR_M, FAR_M / 3),
            )
        if self._is_dropped or self._num_gone >= _GONE_LOOKS:
            return self._nothing("nothing held", _DOUBT)
        return self._decide(middle_m, is_seen=view is not None)

    def _compare(self, middle_m: np.ndarray, view: HeldView | None) -> float | None:
        """Learns from a clear view how the object sits, or that it has been dropped.

        Returns how far it is from where the tool would carry it, None where nothing tells.
        """
        camera = self._calibration.camera
        if view is None or not view.is_clear or not camera.looks_down(view.pixel[None]):
            return None
        offset_m = camera.on_plane(view.pixel[None], float(middle_m[2]))[0] - middle_m
        gap_m = float(np.hypot(*(offset_m - self._offset_m())[:2]))
        if gap_m > FAR_M:
            self._is_dropped, self._back_m = True, None
        elif self._is_dropped:
            # An empty gripper passes what it has dropped: only one that takes it along has it.
            self._back_m = middle_m if self._back_m is None else self._back_m
            self._is_dropped = float(np.hypot(*(middle_m - self._back_m)[:2])) <= _ALONG_M
        if not self._is_dropped:
            self._offsets_m.append(offset_m)
        return gap_m

    def _offset_m(self) -> np.ndarray:
        """Returns how the object sits in the gripper, from the calibrated middle. [3]"""
        return np.median(self._offsets_m, axis=0) if self._offsets_m else np.zeros(3)

    def _nothing(self, reason: str, confidence: float) -> Verdict:
        best = self._target.best
        place_m = None if best is None else (float(best.place_m[0]), float(best.place_m[1]))
        return Verdict(reward=0.0, confidence=confidence, reason=reason, target_m=place_m)

    def _decide(self, middle_m: np.ndarray, *, is_seen: bool) -> Verdict:
        held_m = middle_m + self._offset_m()
        held_sigma_m = max(_LEAST_SIGMA_M, self._calibration.error_m)
        if not self._offsets_m:
            held_sigma_m = _UNSEEN_SIGMA_M
        best = self._target.best
        if best is None:
            return Verdict(
                reward=0.0, confidence=0.0, reason="target not seen yet", held_m=_tuple(held_m)
            )
        target_sigma_m = _LEAST_SIGMA_M + _HIDDEN_SIGMA_M * (1.0 - best.share)
        x, y = (float(n) for n in best.place_m)
        distance_m = float(np.hypot(*(held_m[:2] - best.place_m)))
        margin_m = self._tolerance_m - distance_m
        sure = sureness(margin_m, float(np.hypot(target_sigma_m, held_sigma_m)))
        return Verdict(
            reward=SUCCESS if margin_m >= 0 else 0.0,
            confidence=min(sure, _DOUBT) if best.is_ambiguous or not is_seen else sure,
            reason=f"{1e3 * distance_m:.1f} mm from the target",
            held_m=_tuple(held_m),
            target_m=(x, y),
        )


def _tuple(point_m: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(n) for n in point_m)
    return x, y, z
