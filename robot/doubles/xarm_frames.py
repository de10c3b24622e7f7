"""Frames of the xArm controller's control port, as bytes.

A request is a big-endian header (transaction, protocol, length, register) and a payload whose
floats are little-endian. A reply repeats the header and puts one state byte before its data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

_HEADER = struct.Struct(">HHHB")
_LENGTH_AT = 4
# The length counts everything behind itself.
_BEFORE_LENGTH_END = 6
_MAX_LENGTH = 4096


class Register(IntEnum):
    """What a request asks for."""

    GET_VERSION = 1
    GET_ROBOT_SN = 2
    MOTION_EN = 11
    SET_STATE = 12
    GET_STATE = 13
    GET_CMDNUM = 14
    GET_ERROR = 15
    CLEAN_ERR = 16
    CLEAN_WAR = 17
    SET_MODE = 19
    MOVE_LINE = 21
    MOVE_JOINT = 23
    MOVE_HOME = 25
    MOVE_SERVOJ = 29
    MOVE_SERVO_CART = 30
    SET_TCP_OFFSET = 35
    SET_LOAD_PARAM = 36
    SET_COLLIS_SENS = 37
    GET_TCP_POSE = 41
    GET_JOINT_POS = 42
    SET_REDUCED_TRSV = 47
    SET_REDUCED_P2PV = 48
    GET_REDUCED_MODE = 49
    SET_REDUCED_MODE = 50
    SET_LIMIT_XYZ = 52
    GET_REDUCED_STATE = 53
    SET_FENCE_ON = 59
    SET_COLLIS_REB = 60
    SET_SELF_COLLIS_CHECK = 77
    VC_SET_JOINTV = 81
    VC_SET_CARTV = 82
    MOVE_RELATIVE = 83
    RS485_RTU = 124
    TGPIO_W16B = 127
    TGPIO_R16B = 128
    SET_FEEDBACK_TYPE = 254


class StateBits(IntFlag):
    """The state byte of a reply."""

    OK = 0x00
    INVALID = 0x08
    NOT_READY = 0x10
    WARNING = 0x20
    ERROR = 0x40


class MalformedFrame(ValueError):
    """Bytes that no client of the controller sends."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, taken off the wire."""

    transaction: int
    protocol: int
    register: int
    data: bytes

    def floats(self, num: int) -> tuple[float, ...]:
        """Returns the first `num` little-endian floats; MalformedFrame if there are fewer."""
        if len(self.data) < 4 * num:
            raise MalformedFrame(
                f"register {self.register} needs {num} floats, got {len(self.data)} bytes"
            )
        return struct.unpack(f"<{num}f", self.data[: 4 * num])

    def byte(self, index: int = 0) -> int:
        """Returns one byte of the payload; MalformedFrame if it is not there."""
        if len(self.data) <= index:
            raise MalformedFrame(f"register {self.register} needs {index + 1} bytes of payload")
        return self.data[index]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the controller answers: a state byte and data."""

    state: StateBits
    data: bytes = b""


def take_request(buffer: bytearray) -> Request | None:
    """Takes the first whole request out of `buffer`, or returns None while there is none.

    Raises:
        MalformedFrame: The length is nothing a client sends; the connection is of no more use.
    """
    if len(buffer) < _BEFORE_LENGTH_END:
        return None
    (length,) = struct.unpack_from(">H", buffer, _LENGTH_AT)
    if not 1 <= length <= _MAX_LENGTH:
        raise MalformedFrame(f"length {length} is not 1 .. {_MAX_LENGTH}")
    end = _BEFORE_LENGTH_END + length
    if len(buffer) < end:
        return None
    transaction, protocol, _, register = _HEADER.unpack_from(buffer)
    data = bytes(buffer[_HEADER.size : end])
    del buffer[:end]
    return Request(transaction=transaction, protocol=protocol, register=register, data=data)


def pack_reply(request: Request, reply: Reply) -> bytes:
    """Returns the reply to a request as bytes."""
    header = _HEADER.pack(
        request.transaction, request.protocol, 2 + len(reply.data), request.register
    )
    return header + bytes([int(reply.state)]) + reply.data


def pack_floats(numbers: Sequence[float]) -> bytes:
    """Returns little-endian float32."""
    return struct.pack(f"<{len(numbers)}f", *numbers)
