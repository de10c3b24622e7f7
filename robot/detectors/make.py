"""What every detector is, and the one for a task."""

from __future__ import annotations

from typing import Protocol

from robot.calibration import Calibration
from robot.detectors.pick import PickDetector
from robot.detectors.reach import ReachDetector
from robot.detectors.verdict import Verdict
from robot.interfaces import Reward
from robot.observation import Observation


class Detector(Reward, Protocol):
    """A reward from camera frames and the arm's state alone, which says how sure it is."""

    @property
    def last(self) -> Verdict:
        """The newest verdict."""
        ...

    def judge(self, observation: Observation) -> Verdict:
        """Returns the reward of an observation with how sure it is."""
        ...


def make_detector(
    task: str, calibration: Calibration, *, reach_tolerance_m: float, lift_height_m: float
) -> Detector:
    """Returns the detector of a task.

    Args:
        task: `reach` or `pick`.
        calibration: Made for this task.
        reach_tolerance_m: Greatest distance that counts as reached.
        lift_height_m: How far above where it stood counts as lifted.

    Raises:
        ValueError: There is no detector for the task, or the calibration is for another one.
    """
    if task == "reach":
        return ReachDetector(calibration, reach_tolerance_m)
    if task == "pick":
        return PickDetector(calibration, lift_height_m)
    raise ValueError(f"there is no detector for task {task!r}, only for reach and pick")
