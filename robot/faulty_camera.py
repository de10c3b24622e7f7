"""A camera that gets into trouble when told to: what a robot must notice, to try it out."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from robot.clock import Clock
from robot.interfaces import Camera, Frame, RobotFault


class CameraTrouble(enum.Enum):
    """What a camera may do instead of showing what is."""

    FREEZE = "shows its last good frame again, and says so"
    RESTAMP = "shows it again under the time of now"
    RENUMBER = "shows it again under a number of now"
    GO_BACK = "shows the good frame before the last one"
    COUNT_ANEW = "shows what is, under a number of long ago"
    LAG_BEHIND = "shows what is under a time half a second ago, by a clock of its own"
    RUN_AHEAD = "shows what is under a time half a second from now"
    UNPLUG = "raises RobotFault `camera_gone`"


class FaultyCamera:
    """A camera that is in trouble at the given reads, and well at all others.

    Args:
        camera: What it shows while it is well.
        clock: The clock of its time stamps.
        troubles: What happens at which read, counted from 0 since construction.
    """

    def __init__(self, camera: Camera, clock: Clock, troubles: Mapping[int, CameraTrouble]) -> None:
        self._camera = camera
        self._clock = clock
        self._troubles = troubles
        self._num_reads = 0
        self._shown: list[Frame] = []

    @property
    def name(self) -> str:
        """Name of the camera behind."""
        return self._camera.name

    def read(self) -> Frame:
        """Returns a frame of the camera behind, or what is left of it."""
        trouble = self._troubles.get(self._num_reads)
        self._num_reads += 1
        if trouble is CameraTrouble.UNPLUG:
            raise RobotFault("camera_gone", "the fake was asked to be unplugged here")
        present = self._camera.read()
        if trouble is None or not self._shown:
            self._shown = [*self._shown[-1:], present]
            return present
        last, now_ns, half_s = self._shown[-1], self._clock.now_ns(), 500_000_000
        match trouble:
            case CameraTrouble.FREEZE:
                return last
            case CameraTrouble.RESTAMP:
                return dataclasses.replace(last, t_ns=now_ns)
            case CameraTrouble.RENUMBER:
                return dataclasses.replace(last, frame_number=present.frame_number)
            case CameraTrouble.GO_BACK:
                return self._shown[0]
            case CameraTrouble.COUNT_ANEW:
                return dataclasses.replace(present, frame_number=-1)
            case CameraTrouble.LAG_BEHIND:
                return dataclasses.replace(present, t_ns=now_ns - half_s)
            case CameraTrouble.RUN_AHEAD:
                return dataclasses.replace(present, t_ns=now_ns + half_s)

    def close(self) -> None:
        """Closes the camera behind."""
        self._camera.close()
