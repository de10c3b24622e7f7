"""How a RealSense camera is run, and what is told about it; nothing here needs its SDK."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RealSenseConfig:
    """One colour stream and how long it may be silent."""

    name: str = "front"
    """Its images are the observation field `image.NAME`."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""
    fps: int = 30
    """Frames a second."""
    exposure_s: float | None = 0.0156
    """Fixed exposure time: in low light automatic exposure halves the frame rate and changes what
    the policy sees. None leaves it to the camera."""
    gain: float | None = 64.0
    """Fixed gain, in the camera's own units. None leaves it to the camera."""
    white_balance_k: float | None = 4600.0
    """Fixed white balance, kelvin. None leaves it to the camera, as for one that has no such
    control."""
    num_warm_up_frames: int = 15
    """Frames after a start that are not shown: exposure settles, and their delays tell how the
    camera's clock compares with ours."""
    first_frame_s: float = 5.0
    """A start that shows no frame for so long has failed: the hardware is reset. [s]"""
    late_s: float = 0.1
    """A frame that is older when it arrives is counted as late. [s]"""
    max_age_s: float = 1.0
    """An older newest frame is not given out, reading is a fault. [s]"""
    stall_s: float = 1.0
    """A running stream that brings nothing new for so long is started again, after a reset of the
    hardware. In a trial that is a fault by then, and a person looks. [s]"""
    max_restarts: int = 5
    """Starts in a row that may fail before the camera is given up."""
    restart_pause_s: float = 2.0
    """Pause before each of them but the first. [s]"""
    is_noisy: bool = True
    """No two pictures of a real sensor are the same to the last bit: one that is shows that the
    sensor hangs. False for rendered pictures."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name must be letters, digits and _, got {self.name!r}")
        for name in ("width", "height", "fps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_warm_up_frames", "max_restarts", "restart_pause_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("first_frame_s", "late_s", "max_age_s", "stall_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("exposure_s", "gain", "white_balance_k"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive or None, got {value}")

    @property
    def mode(self) -> str:
        """The stream in words."""
        return f"{self.width}x{self.height} rgb8 at {self.fps} Hz"


@dataclass(frozen=True, kw_only=True)
class CaptureCounts:
    """What came from the camera since it was opened."""

    num_shown: int = 0
    """Frames that were the newest one at some time."""
    num_warm_up: int = 0
    """Left out after a start."""
    num_late: int = 0
    """Shown, but old when they arrived."""
    num_missed: int = 0
    """Never arrived, by the gaps in the camera's numbers."""
    num_repeated: int = 0
    """Refused: the number of the frame before."""
    num_back: int = 0
    """Refused: a number or a time stamp before that of the newest one."""
    num_ahead: int = 0
    """Refused: a time stamp in the future."""
    num_global: int = 0
    """Refused: stamped in the host's time, as the SDK does from a start until it is told not to."""
    num_frozen: int = 0
    """Refused: the same picture as before, to the last bit."""
    num_restarts: int = 0
    """Attempts to start the stream again."""
