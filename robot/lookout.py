"""A thread that watches the cameras while the loop plans or waits, and has the arm held in time.

A loop looks once a period, and plans in between. A camera that dies right after a look would be
found out a period later and leave the arm on its way for all that time; at 20 Hz that is more than
two periods and 50 ms. The lookout looks every few milliseconds. What it finds stale the loop's own
look finds stale too, with limits of its own, and a fault is the loop's to latch. A lookout that
breaks says so: a robot that nobody looks out for is not commanded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from robot.clock import Clock
from robot.frames import FrameLimits, FrameWatch
from robot.interfaces import Camera, RobotFault, WatchedArm

LOOK_S = 0.005
_CLOSE_S = 2.0


class Lookout:
    """Watches cameras from `begin` to `end`, and holds an arm while one shows nothing new.

    Args:
        cameras: They may be read from any thread, and reading them waits for nothing.
        limits: When their newest frame is too old.
        clock: Of their time stamps.
    """

    def __init__(self, cameras: Sequence[Camera], limits: FrameLimits, clock: Clock) -> None:
        self._cameras, self._limits, self._clock = list(cameras), limits, clock
        self._watches: list[FrameWatch] = []
        self._changing = threading.Lock()
        self._arm: WatchedArm | None = None
        self._has_work, self._is_closing = threading.Event(), threading.Event()
        self.is_blind = False
        """Whether a camera shows nothing new now; False outside of a trial."""
        self.failure: RobotFault | None = None
        """Why nobody looks any more: something broke that is no camera's fault."""
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._thread.start()

    def begin(self, arm: WatchedArm) -> None:
        """Watches on behalf of `arm` from now on."""
        with self._changing:
            self._watches = [FrameWatch(camera.name, self._limits) for camera in self._cameras]
            self._arm, self.is_blind = arm, False
            self._has_work.set()

    def end(self) -> None:
        """Watches no more; what comes after it is not held by it."""
        with self._changing:
            self._arm, self.is_blind = None, False
            self._has_work.clear()

    def look(self) -> None:
        """Looks once at every camera, and has the arm held if one shows nothing new."""
        with self._changing:
            if self._arm is not None:
                self.is_blind = any([self._is_blind(n) for n in range(len(self._cameras))])
                if self.is_blind:
                    self._arm.hold(is_aside=True)

    def close(self) -> None:
        """Ends the thread; may be called twice."""
        self.end()
        self._is_closing.set()
        self._has_work.set()
        self._thread.join(_CLOSE_S)

    def _is_blind(self, index: int) -> bool:
        asked_ns = self._clock.now_ns()
        try:
            frame = self._cameras[index].read()
            sighting = self._watches[index].judge(
                frame, asked_ns=asked_ns, read_ns=self._clock.now_ns()
            )
        except RobotFault:
            return True
        return sighting.is_stale

    def _run(self) -> None:
        while self._has_work.wait() and not self._is_closing.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop must hear of it
                self.failure = RobotFault("lookout_failed", f"{type(error).__name__}: {error}")
                return
            time.sleep(LOOK_S)
