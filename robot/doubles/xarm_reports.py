"""The reports an xArm controller sends without being asked: real, normal and rich, as bytes.

`real` (port 30003, 100 Hz) knows where the arm is and whether it may move, but carries no error
code; `normal` (30001) and `rich` (30002) come five times a second and carry the rest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

REAL_BYTES = 135
NORMAL_BYTES = 145
RICH_BYTES = 587

# Bytes of the rich report that this double sets, from its start.
_RICH_IDENTITY_AT = 145
_RICH_VERSION_AT = 151
_RICH_LIMITS_AT = 181
_RICH_SPEEDS_AT = 252
_RICH_COUNTER_AT = 284
_RICH_BASE_OFFSET_AT = 288
_RICH_SIMULATION_AT = 314
_RICH_CONFIG_AT = 494
_RICH_REDUCED_AT = 495


@dataclass(frozen=True, kw_only=True)
class ReportValues:
    """What a report tells, in the controller's units: millimetres and radians."""

    state: int
    mode: int
    num_commands: int
    joints_rad: tuple[float, ...]
    """[7]"""
    pose: tuple[float, ...]
    """x, y, z in mm; roll, pitch, yaw in rad. [6]"""
    is_enabled: bool
    error: int
    warning: int
    tcp_offset: tuple[float, ...]
    """[6]"""
    tcp_load: tuple[float, ...]
    """Kilograms and the centre of mass in mm. [4]"""
    collision_sensitivity: int
    gravity: tuple[float, ...]
    """[3]"""
    base_offset: tuple[float, ...]
    """mm and rad. [6]"""
    is_simulation: bool
    is_rebound_on: bool
    axis: int
    arm_type: int
    version: str
    speed_mm_s: float
    counter: int
    is_reduced: bool
    boundary_mm: tuple[int, ...]
    """x max, x min, y max, y min, z max, z min. [6]"""
    reduced_speed_mm_s: float
    reduced_joint_speed_rad_s: float
    is_fence_on: bool
    joint_range_rad: tuple[float, ...] = field(default=(-6.28, 6.28) * 7)
    """Low and high of each joint in reduced mode. [14]"""


def pack_real(values: ReportValues) -> bytes:
    """Returns the 100 Hz report: motion only."""
    body = _motion(values) + bytes(48)
    return struct.pack(">I", 4 + len(body)) + body


def pack_normal(values: ReportValues) -> bytes:
    """Returns the 5 Hz report with errors and the tool."""
    body = _motion(values) + _status(values)
    return struct.pack(">I", 4 + len(body)) + body


def pack_rich(values: ReportValues) -> bytes:
    """Returns the 5 Hz report with everything; what this double has none of is zero."""
    report = bytearray(RICH_BYTES)
    struct.pack_into(">I", report, 0, RICH_BYTES)
    head = _motion(values) + _status(values)
    report[4 : 4 + len(head)] = head
    struct.pack_into("6B", report, _RICH_IDENTITY_AT, values.arm_type, values.axis, 2, 2, 1, 1)
    struct.pack_into("30s", report, _RICH_VERSION_AT, values.version.encode("ascii")[:29])
    # Jerk, least and greatest acceleration and speed: of the tool, of the joints, of its turning.
    limits = (1000.0, 1.0, 50_000.0, 0.1, 1000.0, 20.0, 0.01, 20.0, 0.0001, 4.0, 2.3, 2.7)
    struct.pack_into("<12f", report, _RICH_LIMITS_AT, *limits)
    struct.pack_into("<8f", report, _RICH_SPEEDS_AT, values.speed_mm_s, *([0.0] * 7))
    struct.pack_into(">I", report, _RICH_COUNTER_AT, values.counter)
    struct.pack_into("<6f", report, _RICH_BASE_OFFSET_AT, *values.base_offset)
    report[_RICH_SIMULATION_AT] = int(values.is_simulation)
    report[_RICH_CONFIG_AT] = int(values.is_reduced) | int(values.is_fence_on) << 1
    reduced = pack_reduced(values)
    report[_RICH_REDUCED_AT : _RICH_REDUCED_AT + len(reduced)] = reduced
    return bytes(report)


def pack_reduced(values: ReportValues) -> bytes:
    """Returns the reduced mode and its limits, as the rich report and register 53 give them."""
    return (
        bytes([int(values.is_reduced)])
        + struct.pack(">6h", *values.boundary_mm)
        + struct.pack("<2f", values.reduced_speed_mm_s, values.reduced_joint_speed_rad_s)
        + struct.pack("<14f", *values.joint_range_rad)
        + bytes([int(values.is_fence_on), int(values.is_rebound_on)])
    )


def _motion(values: ReportValues) -> bytes:
    return (
        struct.pack(">BH", values.state | values.mode << 4, values.num_commands)
        + struct.pack("<7f", *values.joints_rad)
        + struct.pack("<6f", *values.pose)
        + struct.pack("<7f", *([0.0] * 7))
    )


def _status(values: ReportValues) -> bytes:
    enabled = 0x7F if values.is_enabled else 0
    return (
        bytes([enabled, enabled, values.error, values.warning])
        + struct.pack("<6f", *values.tcp_offset)
        + struct.pack("<4f", *values.tcp_load)
        + bytes([values.collision_sensitivity, 3])
        + struct.pack("<3f", *values.gravity)
    )
