"""The gripper behind the tool's RS485 line: registers of the vendor's gripper, as Modbus RTU.

Assumed: how fast it is for a given speed register. The real one needs 0.4 .. 1 s for its whole way
at the speeds people use; here 5000 r/min is two openings a second.
"""

from __future__ import annotations

import struct

from robot.doubles.xarm_frames import MalformedFrame
from robot.doubles.xarm_motion import Body
from robot.xarm_units import to_opening, to_pulses

GRIPPER_ID = 8
_READ, _WRITE = 0x03, 0x10
_STATUS, _ERROR, _ENABLE, _RESET_ERROR = 0x0000, 0x000F, 0x0100, 0x0109
_SPEED, _TARGET, _POSITION = 0x0303, 0x0700, 0x0702
_VERSION = (0x0801, 0x0802, 0x0803)
_RPM_PER_HZ = 2500.0
_MOVING, _HOLDING = 1, 2


class GripperRegisters:
    """Answers what arrives for the gripper on RS485 and moves the body's fingers.

    Args:
        body: Whose fingers these are.
    """

    def __init__(self, body: Body) -> None:
        self.error = 0
        """Error of the gripper, 0 for none; a person or the driver resets it."""
        self.targets: list[int] = []
        """Every target it was sent, pulses."""
        self._body = body
        self._values: dict[int, int] = {_ENABLE: 0, _SPEED: 2000, _ERROR: 0}
        self._target = to_pulses(body.gripper_opening())
        self._last_position = self._target

    def answer(self, frame: bytes) -> bytes:
        """Returns the answer to one frame without checksum; MalformedFrame for anything else."""
        if len(frame) < 6 or frame[0] != GRIPPER_ID:
            raise MalformedFrame(f"no frame for the gripper: {frame.hex()}")
        function, address, count = frame[1], *struct.unpack(">HH", frame[2:6])
        if function == _READ:
            data = b"".join(struct.pack(">H", self._read(address + i)) for i in range(count))
            return bytes([GRIPPER_ID, _READ, len(data)]) + data
        if function != _WRITE or len(frame) != 7 + 2 * count:
            raise MalformedFrame(f"no read and no write: {frame.hex()}")
        self._write(address, frame[7:])
        return frame[:6]

    def _read(self, address: int) -> int:
        if address == _ERROR:
            return self.error
        if address == _STATUS:
            return self._status()
        if address in (_POSITION, _POSITION + 1):
            raw = to_pulses(self._body.gripper_opening()) & 0xFFFFFFFF
            return raw >> 16 if address == _POSITION else raw & 0xFFFF
        if address in _VERSION:
            return (3, 4, 3)[_VERSION.index(address)]
        return self._values.get(address, 0)

    def _write(self, address: int, data: bytes) -> None:
        if address == _TARGET and len(data) == 4:
            (self._target,) = struct.unpack(">i", data)
            self.targets.append(self._target)
            if self._values[_ENABLE] and not self.error:
                self._body.move_gripper(
                    to_opening(self._target), self._values[_SPEED] / _RPM_PER_HZ
                )
            return
        if len(data) != 2:
            raise MalformedFrame(f"register 0x{address:04x} takes 2 bytes, got {len(data)}")
        (value,) = struct.unpack(">H", data)
        if address == _RESET_ERROR:
            self.error = 0
            return
        self._values[address] = value

    def _status(self) -> int:
        position = to_pulses(self._body.gripper_opening())
        if position != self._last_position:
            self._last_position = position
            return _MOVING
        return _HOLDING if position > self._target + 5 else 0
