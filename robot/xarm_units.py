"""Where metres, radians and openings become the xArm's millimetres and pulses, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

OPEN_PULSES = 850
# The vendor's curve from the drive's pulses to the width between the pads, millimetres.
_PULSES_PER_DEGREE = 18.28
_ZERO_DEGREES = 8.33
_CRANK_MM = 110.0
_OFFSET_MM = 16.0


def to_mm(place_m: Sequence[float]) -> list[float]:
    """Returns metres as millimetres."""
    return [1000.0 * metres for metres in place_m]


def to_m(place_mm: Sequence[float]) -> tuple[float, float, float]:
    """Returns three numbers of millimetres as metres."""
    x, y, z = (mm / 1000.0 for mm in place_mm)
    return x, y, z


def tool_axis(rotation_rad: Sequence[float]) -> tuple[float, float, float]:
    """Returns the direction from the flange to the tool's end, base frame, of length one. [3]

    Args:
        rotation_rad: Roll, pitch and yaw as the controller tells them: turns about the base's fixed
            x, y and z axes, in this order.
    """
    roll, pitch, yaw = rotation_rad
    sin_roll, cos_roll = math.sin(roll), math.cos(roll)
    return (
        math.cos(yaw) * math.sin(pitch) * cos_roll + math.sin(yaw) * sin_roll,
        math.sin(yaw) * math.sin(pitch) * cos_roll - math.cos(yaw) * sin_roll,
        math.cos(pitch) * cos_roll,
    )


def width_mm(pulses: float) -> float:
    """Returns the width between the gripper's pads; 0 pulses is closed, 850 is 84 mm."""
    degrees = pulses / _PULSES_PER_DEGREE - _ZERO_DEGREES
    return _OFFSET_MM + _CRANK_MM * math.sin(math.radians(degrees))


_CLOSED_MM, _OPEN_MM = width_mm(0), width_mm(OPEN_PULSES)


def to_pulses(opening: float) -> int:
    """Returns the gripper's pulses for an opening, 0 closed .. 1 open; beyond is cut off."""
    wished_mm = _CLOSED_MM + min(max(opening, 0.0), 1.0) * (_OPEN_MM - _CLOSED_MM)
    degrees = math.degrees(math.asin((wished_mm - _OFFSET_MM) / _CRANK_MM))
    return round((degrees + _ZERO_DEGREES) * _PULSES_PER_DEGREE)


def to_opening(pulses: float) -> float:
    """Returns the opening, 0 closed .. 1 open, for the gripper's pulses; beyond is cut off."""
    cut = min(max(pulses, 0.0), float(OPEN_PULSES))
    return min(max((width_mm(cut) - _CLOSED_MM) / (_OPEN_MM - _CLOSED_MM), 0.0), 1.0)
