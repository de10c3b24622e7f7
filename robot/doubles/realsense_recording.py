"""Writes a recording as the SDK does, without a camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robot.clock import MonotonicClock, Ticker
from robot.doubles.realsense_device import SoftwareDevice
from robot.interfaces import RobotFault
from robot.realsense_config import RealSenseConfig

_ARRIVAL_MS = 5000


def write_recording(path: Path, images: Sequence[np.ndarray], config: RealSenseConfig) -> None:
    """Records pictures at the rate of `config`; takes as long as they play.

    Args:
        path: A `.db3` file that is not there yet.
        images: uint8, numbered from 1 in the recording. [height, width, 3] each
        config: Size and rate.

    Raises:
        RobotFault: `camera_start`, the SDK cannot write there.
    """
    if path.suffix != ".db3" or path.exists():
        raise ValueError(f"expected a new file that ends in .db3, got {path}")
    clock = MonotonicClock()
    device = SoftwareDevice(config, clock)
    pipeline = device.start(config, record_to=path)
    try:
        ticker = Ticker(clock, round(1e9 / config.fps))
        ticker.start()
        for number, image in enumerate(images, 1):
            ticker.wait()
            device.feed(image)
            # The SDK drops what it has not passed on when the next frame comes.
            has_come, _ = pipeline.try_wait_for_frames(_ARRIVAL_MS)
            if not has_come:
                raise RobotFault("camera_start", f"picture {number} did not pass the recorder")
    finally:
        pipeline.stop()
