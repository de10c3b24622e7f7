"""What the detectors of all tasks do alike: one trial at a time, one verdict an observation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from robot.calibration import Calibration
from robot.camera_model import CalibrationError
from robot.detectors.track import ToolTrack
from robot.detectors.verdict import Verdict
from robot.interfaces import ArmState, Frame, RobotFault
from robot.observation import Observation
from robot.rewards import SUCCESS

_NOTHING_YET = Verdict(reward=0.0, confidence=0.0, reason="nothing seen yet")


class Detector(ABC):
    """A reward from the calibrated camera's frames and the arm's state.

    Args:
        calibration: Of the camera and the object.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._track = ToolTrack()
        self._last = _NOTHING_YET

    @property
    def last(self) -> Verdict:
        """The newest verdict."""
        return self._last

    def begin(self, observation: Observation) -> None:
        """Starts a trial: forgets the one before and looks for the first time."""
        self._track.forget()
        self._forget()
        self._last = _NOTHING_YET
        self.judge(observation)

    def __call__(self, observation: Observation) -> float:
        """Returns the reward of an observation, to be asked in the order of the trial."""
        return self.judge(observation).reward

    def is_success(self, reward: float) -> bool:
        """Whether a step with this reward solves the task."""
        return reward >= SUCCESS

    def judge(self, observation: Observation) -> Verdict:
        """Returns the reward with how sure it is.

        A stale observation changes nothing and is given the reward before it, without confidence.

        Raises:
            RobotFault: The calibrated camera's frame or the arm's state is missing, the frame is
                not of the calibrated size, or the calibration tells nothing of what is seen.
        """
        if observation.is_stale:
            self._last = Verdict(reward=self._last.reward, confidence=0.0, reason="stale frame")
            return self._last
        frame, state = observation.seen_by(self._calibration.camera_name)
        self._calibration.check_image(frame.image)
        self._track.add(state)
        try:
            self._last = self._look(frame, state)
        except CalibrationError as error:
            raise RobotFault(
                "detector_failed",
                f"camera {self._calibration.camera_name}: {error}; does it still stand where it "
                "was calibrated?",
            ) from error
        return self._last

    @abstractmethod
    def _forget(self) -> None:
        """Forgets what was remembered of the trial before."""

    @abstractmethod
    def _look(self, frame: Frame, state: ArmState) -> Verdict:
        """Returns the verdict on a fresh frame; the tool's track knows `state` already."""
