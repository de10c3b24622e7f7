"""What the tests of RealSense cameras share: a device fed by the clock of a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from robot.clock import SimulatedClock
from robot.doubles.realsense_device import SoftwareDevice
from robot.interfaces import Frame
from robot.realsense import RealSenseCamera
from robot.realsense_config import RealSenseConfig

PERIOD_NS = 100_000_000
WAIT_S = 20.0
"""Long enough for any machine; nothing waits so long unless it fails."""


def make_config(**changes: Any) -> RealSenseConfig:
    """A small stream that is never taken for dead, and shows its first frame."""
    settings: dict[str, Any] = {
        "width": 32,
        "height": 24,
        "num_warm_up_frames": 0,
        "first_frame_s": WAIT_S,
        "stall_s": 600.0,
        "restart_pause_s": 0.0,
    }
    return RealSenseConfig(**{**settings, **changes})


def picture(number: int, config: RealSenseConfig) -> np.ndarray:
    """A picture that no other number has."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (config.height, config.width, 3), dtype=np.uint8)


def wait_until(is_true: Callable[[], bool]) -> None:
    """Returns as soon as another thread has made it true; it must within `WAIT_S`."""
    give_up_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < give_up_s
        time.sleep(0.001)


class FilmedClock(SimulatedClock):
    """A clock under which a camera films: as time passes, one more frame is fed and seen."""

    def __init__(self, config: RealSenseConfig) -> None:
        super().__init__(start_ns=1_000_000_000)
        self.config = config
        self.device = SoftwareDevice(config, self)
        self.camera = RealSenseCamera(config, self, self.device)
        self.num_fed = 0
        self.film()

    def advance(self, duration_ns: int) -> None:
        super().advance(duration_ns)
        self.film()

    def pass_by(self, duration_ns: int) -> None:
        """Lets time pass with nothing filmed."""
        super().advance(duration_ns)

    def film(self) -> Frame:
        """Feeds one picture and returns the frame that comes of it."""
        number = self.camera.wait_for_newer(0, WAIT_S).frame_number if self.num_fed else 0
        self.feed()
        return self.camera.wait_for_newer(number, WAIT_S)

    def feed(self) -> None:
        """Feeds one picture, whatever comes of it."""
        self.num_fed += 1
        self.device.feed(picture(self.num_fed, self.config))
