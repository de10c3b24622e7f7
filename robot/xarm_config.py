"""What an xArm 7 is told and held to. Metres, radians, kilograms; numbers of the site, no defaults
of the vendor."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field

MOST_M_S2 = 50.0
"""Hardest change of speed that the controller takes."""


@dataclass(frozen=True, kw_only=True)
class XArmPorts:
    """TCP ports of the controller; other ones only for a double of it."""

    control: int = 502
    rich: int = 30002
    real: int = 30003


@dataclass(frozen=True, kw_only=True)
class XArmConfig:
    """One arm."""

    ip: str = "192.168.1.200"
    """IPv4 address of the controller, or `localhost` for a double: the SDK takes every other name
    for a serial port."""
    ports: XArmPorts = field(default_factory=XArmPorts)
    fence_low_m: tuple[float, float, float] = (0.22, -0.18, -0.01)
    """Lowest tool position of the controller's fence, base frame, whole millimetres. Leaving it is
    C35, so that it belongs well outside of where targets may be."""
    fence_high_m: tuple[float, float, float] = (0.58, 0.18, 0.345)
    """Highest tool position of the controller's fence."""
    speed_m_s: float = 0.25
    """Of the tool on its way to a target."""
    acceleration_m_s2: float = 2.0
    """Of the tool on its way to a target."""
    position_tolerance_m: float = 0.0015
    """A reset without a guard has arrived within this of its place; a guard has its own limit."""
    rotation_tolerance_rad: float = 0.03
    """The tool points straight down within this after a reset without a guard."""
    tool_offset_m: float = 0.172
    """Tool centre point from the flange, along its axis."""
    tool_mass_kg: float = 0.82
    tool_centre_of_mass_m: tuple[float, float, float] = (0.0, 0.0, 0.048)
    """Of the tool, in the flange's frame."""
    collision_sensitivity: int = 3
    """1 least .. 5 most; off cannot be asked for."""
    has_gripper: bool = True
    gripper_speed_rpm: int = 3000
    """1 .. 5000. The xArm Gripper (G1) has no register for its force: what is limited is this."""
    gripper_poll_s: float = 0.05
    """Time between two readings of the gripper; each occupies the tool's line for some ms."""
    gripper_tolerance: float = 0.02
    """Openings nearer than this are the same."""
    command_timeout_s: float = 0.25
    """A target that the controller has not taken by then is a fault, and the arm is stopped."""
    connect_timeout_s: float = 6.0
    max_report_age_s: float = 0.03
    """Where the arm is comes from its last report up to this age, else it is asked for."""
    is_sdk_quiet: bool = True
    """Keep the vendor's messages off standard output, and its files out of the home directory."""

    def __post_init__(self) -> None:
        if not _is_address(self.ip):
            raise ValueError(
                f"ip must be an IPv4 address, as 192.168.1.200, or localhost, got {self.ip!r}: "
                "look the controller's up in the vendor's program"
            )
        corners = (*self.fence_low_m, *self.fence_high_m)
        if len(corners) != 6 or not all(math.isfinite(corner) for corner in corners):
            raise ValueError("fence_low_m and fence_high_m must be three finite numbers each")
        for corner in corners:
            if abs(corner * 1000 - round(corner * 1000)) > 1e-6:
                raise ValueError(f"the fence keeps whole millimetres only, got {corner} m")
        if any(low >= high for low, high in zip(self.fence_low_m, self.fence_high_m, strict=True)):
            raise ValueError(f"fence_low_m {self.fence_low_m} is not below fence_high_m")
        if self.collision_sensitivity not in (1, 2, 3, 4, 5):
            raise ValueError(f"collision_sensitivity must be 1 .. 5: {self.collision_sensitivity}")
        if not 0 < self.speed_m_s <= 1.0:
            raise ValueError(f"need 0 < speed_m_s <= 1, got {self.speed_m_s}")
        if not 0 < self.acceleration_m_s2 <= MOST_M_S2:
            raise ValueError(f"need 0 < acceleration_m_s2 <= 50, got {self.acceleration_m_s2}")
        if not 0 < self.gripper_speed_rpm <= 5000:
            raise ValueError(f"gripper_speed_rpm must be 1 .. 5000, got {self.gripper_speed_rpm}")
        for name in (
            "position_tolerance_m",
            "rotation_tolerance_rad",
            "gripper_poll_s",
            "gripper_tolerance",
            "command_timeout_s",
            "connect_timeout_s",
            "max_report_age_s",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not (math.isfinite(self.tool_mass_kg) and 0 <= self.tool_mass_kg <= 3.5):
            raise ValueError(f"tool_mass_kg must be 0 .. 3.5, got {self.tool_mass_kg}")

    def is_inside_fence(self, position_m: tuple[float, float, float]) -> bool:
        """Whether a tool position is within the fence; NaN is not."""
        limits = zip(position_m, self.fence_low_m, self.fence_high_m, strict=True)
        return all(low <= place <= high for place, low, high in limits)


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return text == "localhost"
    return True
