"""The one place that imports pyrealsense2, and what to install where it cannot be imported."""

from __future__ import annotations

from typing import Any

try:
    import pyrealsense2 as _rs
except ModuleNotFoundError as error:
    raise ImportError(
        f"{error}: RealSense cameras need their SDK, `pip install 'offworld[robot]'`"
    ) from error
except ImportError as error:
    # The wheel does not bring libusb, and says only that a shared object is missing.
    raise ImportError(
        f"{error}: the RealSense SDK needs libusb, `apt-get install libusb-1.0-0`"
    ) from error

__all__ = ["rs"]

# The bindings come without types.
rs: Any = _rs
