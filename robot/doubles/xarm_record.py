"""What the controller's double says it is, and what it keeps of the requests it got."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the controller says it is."""

    firmware: str = "v1.12.10"
    axis: int = 7
    arm_type: int = 7

    @property
    def version(self) -> str:
        """The whole version string, as register 1 gives it."""
        return f"{self.axis},{self.arm_type},XI130512345678,AC130512345678,{self.firmware}"


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request, as it came."""

    t_ns: int
    register: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How the arm was commanded at one moment."""

    t_ns: int
    speed_m_s: float
    """Of the set point."""
    state: int
    """Of the controller."""


@dataclass(frozen=True, kw_only=True)
class MotionFrame:
    """One motion request, decoded. What it was worth is in `is_taken`."""

    t_ns: int
    register: int
    mode: int
    position_m: tuple[float, float, float]
    """Target, or velocity in m/s for a velocity frame."""
    rotation_rad: tuple[float, float, float]
    speed_m_s: float
    acceleration_m_s2: float
    duration_s: float | None
    is_taken: bool
