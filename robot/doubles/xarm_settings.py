"""What the controller was told to keep to: fence, reduced mode, collision sensitivity, the tool."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from robot.doubles.xarm_frames import MalformedFrame, Register, Request
from robot.xarm_units import tool_axis

TOOL_M = 0.172
"""From the flange to the end of the tool that is on this arm."""


class ControllerSettings:
    """The settings of one controller, as after switching it on."""

    def __init__(self) -> None:
        self.tcp_offset: tuple[float, ...] = (0.0,) * 6
        self.tcp_load: tuple[float, ...] = (0.0,) * 4
        self.collision_sensitivity = 3
        self.boundary_mm: tuple[int, ...] = (9999, -9999, 9999, -9999, 9999, -9999)
        self.reduced_speed_mm_s = 1000.0
        self.reduced_joint_speed_rad_s = 3.14
        self.is_reduced = False
        self.is_fence_on = False
        self.gravity: tuple[float, ...] = (0.0, 0.0, -1.0)
        self.base_offset: tuple[float, ...] = (0.0,) * 6
        self.is_simulation = False
        self.is_rebound_on = False
        self.ignored: set[int] = set()
        """Registers whose writes are acknowledged and lost, to try how a driver finds out."""

    def take(self, request: Request) -> bool:
        """Takes one request if it sets something; False for a register that is unknown here."""
        if request.register in self.ignored:
            return True
        match request.register:
            case Register.SET_TCP_OFFSET:
                self.tcp_offset = request.floats(6)
            case Register.SET_LOAD_PARAM:
                self.tcp_load = request.floats(4)
            case Register.SET_COLLIS_SENS:
                self.collision_sensitivity = request.byte()
            case Register.SET_LIMIT_XYZ:
                if len(request.data) != 24:
                    raise MalformedFrame("a boundary is six numbers")
                self.boundary_mm = struct.unpack("<6i", request.data)
            case Register.SET_REDUCED_TRSV:
                (self.reduced_speed_mm_s,) = request.floats(1)
            case Register.SET_REDUCED_P2PV:
                (self.reduced_joint_speed_rad_s,) = request.floats(1)
            case Register.SET_REDUCED_MODE:
                self.is_reduced = bool(request.byte())
            case Register.SET_FENCE_ON:
                self.is_fence_on = bool(request.byte())
            case (
                Register.SET_COLLIS_REB
                | Register.SET_SELF_COLLIS_CHECK
                | Register.SET_FEEDBACK_TYPE
            ):
                pass
            case _:
                return False
        return True

    def reported(self) -> dict[str, Any]:
        """Returns what a report tells of them, as fields of `ReportValues`."""
        return {name: value for name, value in vars(self).items() if name != "ignored"}

    def beyond_tool_m(self, rotation_rad: Sequence[float]) -> np.ndarray:
        """Returns the way from the tool's end to the point whose place is told, base frame. [3]

        Args:
            rotation_rad: Roll, pitch and yaw of the tool. The offset's own are taken for none.
        """
        return np.array(tool_axis(rotation_rad)) * (self.tcp_offset[2] / 1000.0 - TOOL_M)

    def is_outside(self, position_mm: Sequence[float]) -> bool:
        """Whether a tool at this place has left a fence that is on. [3]

        Assumed: the boundary is one of the reduced mode's limits, and holds only while that is on.
        """
        if not (self.is_fence_on and self.is_reduced):
            return False
        limits = zip(position_mm, self.boundary_mm[::2], self.boundary_mm[1::2], strict=True)
        return any(not low <= place <= high for place, high, low in limits)
