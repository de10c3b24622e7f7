"""What a frame of the SDK says of itself: whose clock stamped it, and when the host had it."""

from __future__ import annotations

import logging
import time
from typing import Any

from robot.realsense_sdk import rs

logger = logging.getLogger(__name__)

MAX_QUEUED_NS = 5_000_000_000


def is_in_global_time(frame: Any) -> bool:
    """Whether the SDK has turned the camera's stamp into the host's time.

    It does so from a start until that is switched off, which can be done after the start only. The
    frames after that are stamped by the camera, from decades before.
    """
    return frame.get_frame_timestamp_domain() == rs.timestamp_domain.global_time


def warn_of_host_clock(frame: Any, name: str) -> None:
    """Tells the log, for camera `name`, if its frames are not stamped by the camera itself."""
    domain = frame.get_frame_timestamp_domain()
    if domain != rs.timestamp_domain.hardware_clock:
        logger.warning(
            "camera clock name=%s domain=%s frames are stamped by the host, a delay on their "
            "way does not show: give the kernel or the SDK's backend access to metadata",
            name,
            domain.name,
        )


def queued_ns(frame: Any) -> int:
    """Returns for how long the host has had a frame; 0 where nothing says so."""
    when = rs.frame_metadata_value.time_of_arrival
    if not frame.supports_frame_metadata(when):
        return 0
    since_ns = time.time_ns() - frame.get_frame_metadata(when) * 1_000_000
    # The host's clock may have been set meanwhile.
    return since_ns if 0 < since_ns < MAX_QUEUED_NS else 0
