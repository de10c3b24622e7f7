"""The messages to and from the guard (`robot/guard_messages.py`) as bytes of a fixed size.

They travel over a Unix socket that keeps messages apart (SOCK_SEQPACKET). Each begins with two
letters, version and kind, and each kind has one length; all else is refused with the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from robot.guard_messages import (
    Ack,
    Answer,
    Close,
    Command,
    Hello,
    Hold,
    Message,
    Phase,
    Report,
    Reset,
    Rest,
    Stop,
    Waiting,
)
from robot.interfaces import ArmState, RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits

VERSION = 3
MAX_BYTES = 512
"""Longer than any message."""
_MAGIC = b"OG"
_HEADER = struct.Struct("<2sBB")
_CODE_BYTES, _FAULT_BYTES, _ANSWER_BYTES = 40, 256, 400


class WireError(ValueError):
    """What came is no message of this version; the text says why."""


_HELLO = struct.Struct("<q10d")
_RESET = struct.Struct("<I4d")
_COMMAND = struct.Struct("<Qq4d")
_STOP = struct.Struct(f"<{_CODE_BYTES}s{_FAULT_BYTES}s")
_ANSWER = struct.Struct(f"<B{_ANSWER_BYTES}s")
_REPORT = struct.Struct(f"<BBBqQIIIIq7d{_CODE_BYTES}s{_FAULT_BYTES}s")
_EMPTY = struct.Struct("<")


def pack(message: Message) -> bytes:
    """Returns a message as bytes; texts are cut to their room."""
    layout = _LAYOUTS[type(message)]
    return _HEADER.pack(_MAGIC, VERSION, layout.kind) + layout.body.pack(*layout.values_of(message))


def unpack(raw: bytes) -> Message:
    """Returns the message that `raw` is; WireError if it is none."""
    if len(raw) < _HEADER.size:
        raise WireError(f"{len(raw)} bytes are too short for a message")
    magic, version, kind = _HEADER.unpack_from(raw)
    if magic != _MAGIC:
        raise WireError(f"a message begins with {_MAGIC!r}, not with {magic!r}")
    if version != VERSION:
        raise WireError(f"version {version} of the guard's messages, {VERSION} is spoken here")
    if kind not in _BY_KIND:
        raise WireError(f"there is no message of kind {kind}")
    name, layout = _BY_KIND[kind]
    if len(raw) != _HEADER.size + layout.body.size:
        raise WireError(f"{name} has {_HEADER.size + layout.body.size} bytes, not {len(raw)}")
    try:
        return layout.message_of(*layout.body.unpack_from(raw, _HEADER.size))
    except ValueError as error:
        raise WireError(f"{name} that cannot be: {error}") from error


def _hello_values(m: Hello) -> tuple[Any, ...]:
    limits = m.limits
    return (
        m.period_ns,
        *limits.box_low_m,
        *limits.box_high_m,
        limits.max_step_m,
        limits.max_speed_m_s,
        limits.max_lag_m,
        limits.max_outside_m,
    )


def _hello(period_ns: int, *values: float) -> Hello:
    limits = SafetyLimits(
        box_low_m=(values[0], values[1], values[2]),
        box_high_m=(values[3], values[4], values[5]),
        max_step_m=values[6],
        max_speed_m_s=values[7],
        max_lag_m=values[8],
        max_outside_m=values[9],
    )
    return Hello(period_ns=period_ns, limits=limits)


def _reset(number: int, x: float, y: float, z: float, opening: float) -> Reset:
    return Reset(number=number, pose=StartPose(position_m=(x, y, z), gripper_opening=opening))


def _command(seq: int, t_ns: int, x: float, y: float, z: float, opening: float) -> Command:
    target = ToolTarget(position_m=(x, y, z), gripper_opening=opening)
    return Command(seq=seq, t_ns=t_ns, target=target)


def _report_values(m: Report) -> tuple[Any, ...]:
    state = m.state
    measured = (0.0,) * 7
    if state is not None:
        measured = (*state.position_m, *state.rotation_rad, state.gripper_opening)
    return (
        m.phase,
        state is not None,
        state is not None and state.is_gripper_stuck,
        m.t_ns,
        m.seq,
        m.reset_number,
        m.num_holds,
        m.num_ignored,
        m.num_acks,
        0 if state is None else state.t_ns,
        *measured,
        *_fault_values(m.fault),
    )


def _report(
    phase: int,
    has_state: int,
    is_stuck: int,
    t_ns: int,
    seq: int,
    reset_number: int,
    num_holds: int,
    num_ignored: int,
    num_acks: int,
    state_ns: int,
    *rest: Any,
) -> Report:
    *measured, code, text = rest
    state = None
    if has_state:
        state = ArmState(
            position_m=(measured[0], measured[1], measured[2]),
            rotation_rad=(measured[3], measured[4], measured[5]),
            gripper_opening=measured[6],
            is_gripper_stuck=bool(is_stuck),
            t_ns=state_ns,
        )
    return Report(
        phase=Phase(phase),
        t_ns=t_ns,
        state=state,
        fault=_fault(code, text),
        seq=seq,
        reset_number=reset_number,
        num_holds=num_holds,
        num_ignored=num_ignored,
        num_acks=num_acks,
    )


def _fault_values(fault: RobotFault | None) -> tuple[bytes, bytes]:
    if fault is None:
        return b"", b""
    return _cut(fault.code, _CODE_BYTES), _cut(fault.message, _FAULT_BYTES)


def _fault(code: bytes, text: bytes) -> RobotFault | None:
    return RobotFault(_text(code), _text(text)) if code.strip(b"\0") else None


def _cut(text: str, num_bytes: int) -> bytes:
    return text.encode(errors="replace")[:num_bytes]


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="ignore")


class _Layout(NamedTuple):
    kind: int
    body: struct.Struct
    values_of: Callable[[Any], tuple[Any, ...]]
    message_of: Callable[..., Message]


_LAYOUTS: dict[type, _Layout] = {
    Hello: _Layout(1, _HELLO, _hello_values, _hello),
    Reset: _Layout(
        2, _RESET, lambda m: (m.number, *m.pose.position_m, m.pose.gripper_opening), _reset
    ),
    Command: _Layout(
        3,
        _COMMAND,
        lambda m: (m.seq, m.t_ns, *m.target.position_m, m.target.gripper_opening),
        _command,
    ),
    Rest: _Layout(4, _EMPTY, lambda _: (), Rest),
    Stop: _Layout(
        5,
        _STOP,
        lambda m: _fault_values(m.cause),
        lambda code, text: Stop(cause=_fault(code, text)),
    ),
    Close: _Layout(6, _EMPTY, lambda _: (), Close),
    Ack: _Layout(7, _EMPTY, lambda _: (), Ack),
    Waiting: _Layout(8, struct.Struct("<q"), lambda m: (m.t_ns,), lambda t_ns: Waiting(t_ns=t_ns)),
    Hold: _Layout(9, struct.Struct("<q"), lambda m: (m.t_ns,), lambda t_ns: Hold(t_ns=t_ns)),
    Answer: _Layout(
        16,
        _ANSWER,
        lambda m: (m.is_ok, _cut(m.text, _ANSWER_BYTES)),
        lambda is_ok, text: Answer(is_ok=bool(is_ok), text=_text(text)),
    ),
    Report: _Layout(17, _REPORT, _report_values, _report),
}
_BY_KIND = {layout.kind: (cls.__name__, layout) for cls, layout in _LAYOUTS.items()}
