"""The controller's own state: what it does with each request, and when it stops by itself.

No sockets and no threads: `handle` takes a request and returns the reply, `advance` moves time on.
Callers hold `lock`.

Assumed, for want of an arm: the state is 5 after a change of mode, until `set_state(0)`, and after
one of the tool's offset, its load or the collision sensitivity, which ends in mode 0 (the vendor
says so of all four); an emergency stop takes the motors' enabling away; a motion frame in a mode
that is not its own is answered as invalid; C35 comes as soon as the measured tool is outside the
fence, and again after it is cleared while the tool is still outside; stopping brakes at 10 m/s2;
mode 7 replaces the target, mode 0 queues it; the reduced speed cuts that of a move, not the move.
"""

from __future__ import annotations

import math
import struct
import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from robot.doubles.xarm_frames import (
    MalformedFrame,
    Register,
    Reply,
    Request,
    StateBits,
    pack_floats,
)
from robot.doubles.xarm_gripper import GripperRegisters
from robot.doubles.xarm_motion import Body
from robot.doubles.xarm_record import Identity, MotionFrame, Received, Sample
from robot.doubles.xarm_reports import ReportValues, pack_reduced
from robot.doubles.xarm_settings import ControllerSettings
from robot.xarm_units import to_m, to_mm

EMERGENCY_STOP, TOOL_LINE, PLANNING, FENCE = 1, 19, 21, 35
STOP_DECELERATION_M_S2 = 10.0
_RUNNING, _STANDBY, _PAUSED, _STOPPED, _CHANGING = 1, 2, 3, 4, 5
_POSITION_MODE, _VELOCITY_MODE, _ONLINE_MODE = 0, 5, 7
_BAUD_RATE_ADDRESS, _BAUD_RATE_2M = 0x0A0B, 11
# The shoulder is here, and a tool of 172 mm reaches no further from it.
_SHOULDER_M, _REACH_M = np.array([0.0, 0.0, 0.267]), 0.80
_BEGINS_ANEW = {Register.SET_TCP_OFFSET, Register.SET_LOAD_PARAM, Register.SET_COLLIS_SENS}
_MOTIONS = {Register.MOVE_LINE, Register.VC_SET_CARTV}
_KEPT_FRAMES = 100_000
_KEPT_SAMPLES = 20_000
_CYCLE_NS = 10_000_000


class XArmMachine:
    """One controller with its arm.

    Args:
        body: What moves.
        identity: What it says it is.
    """

    def __init__(self, body: Body, identity: Identity | None = None) -> None:
        self.lock = threading.RLock()
        self.body = body
        self.identity = identity or Identity()
        self.settings = ControllerSettings()
        self.gripper = GripperRegisters(body)
        self.state = _STOPPED
        self.mode = _POSITION_MODE
        self.error = 0
        self.warning = 0
        self.is_enabled = False
        self.is_emergency_stop_pressed = False
        self.received: deque[Received] = deque(maxlen=_KEPT_FRAMES)
        self.motions: deque[MotionFrame] = deque(maxlen=_KEPT_FRAMES)
        self.samples: deque[Sample] = deque(maxlen=_KEPT_SAMPLES)
        """How it was commanded, each time it was moved on: every 10 ms in a running double."""
        self._queue: deque[tuple[np.ndarray, float, float]] = deque()
        self.begins_anew_after_ns = 0
        """How long after a change of the tool it does; 0 for before it is answered."""
        self._velocity_ends_ns: int | None = None
        self._begins_anew_ns: int | None = None
        self._counter = 0
        self._answers: dict[int, Callable[[Request], Reply]] = {
            Register.GET_VERSION: lambda _: self._data(self.identity.version.encode() + b"\0"),
            Register.GET_STATE: lambda _: self._data(bytes([self._shown_state()])),
            Register.GET_CMDNUM: lambda _: self._data(struct.pack(">H", len(self._queue))),
            Register.GET_ERROR: lambda _: self._data(bytes([self.error, self.warning])),
            Register.GET_TCP_POSE: lambda _: self._data(pack_floats(self._pose())),
            Register.GET_JOINT_POS: lambda _: self._data(pack_floats(list(body.joints_rad()))),
            Register.GET_REDUCED_MODE: lambda _: self._data(bytes([self.settings.is_reduced])),
            Register.GET_REDUCED_STATE: lambda _: self._data(pack_reduced(self.values())),
            Register.TGPIO_R16B: self._read_tool,
            Register.TGPIO_W16B: lambda _: self._data(b""),
            Register.RS485_RTU: self._ask_gripper,
            Register.MOTION_EN: self._enable,
            Register.SET_STATE: self._set_state,
            Register.SET_MODE: self._set_mode,
            Register.CLEAN_ERR: self._clean_error,
            Register.CLEAN_WAR: self._clean_warning,
            Register.MOVE_LINE: self._move_line,
            Register.VC_SET_CARTV: self._move_at,
        }

    def handle(self, request: Request, t_ns: int) -> Reply:
        """Does what a request asks at `t_ns` and returns the reply."""
        self.advance(t_ns)
        self.received.append(Received(t_ns=t_ns, register=request.register, data=request.data))
        answer = self._answers.get(request.register)
        try:
            if answer is not None:
                return answer(request)
            if self.settings.take(request):
                if request.register in _BEGINS_ANEW:
                    self._begins_anew_ns = t_ns + self.begins_anew_after_ns
                self._begin_anew(t_ns)
                return self._data(b"")
        except MalformedFrame:
            pass
        return Reply(state=self._bits() | StateBits.INVALID)

    def advance(self, t_ns: int) -> None:
        """Moves time on to `t_ns`, and stops the arm where the fence says so."""
        self._begin_anew(t_ns)
        while self.body.t_ns < t_ns:
            before_ns = self.body.t_ns
            is_busy = self.body.is_moving or self._queue
            self._step(min(before_ns + _CYCLE_NS, t_ns) if is_busy else t_ns)
            if self.body.t_ns == before_ns:
                return

    def _begin_anew(self, t_ns: int) -> None:
        """Takes back mode and state, if a change of the tool has it due."""
        if self._begins_anew_ns is not None and t_ns >= self._begins_anew_ns:
            self.stop()
            self.mode, self.state, self._begins_anew_ns = _POSITION_MODE, _CHANGING, None

    def _step(self, t_ns: int) -> None:
        self.body.advance(t_ns)
        if self._velocity_ends_ns is not None and t_ns >= self._velocity_ends_ns:
            self.body.halt(STOP_DECELERATION_M_S2)
            self._velocity_ends_ns = None
        if self._queue and not self.body.is_moving and self.state < _PAUSED:
            self.body.move_to(*self._queue.popleft())
        if not self.error and self.settings.is_outside(self._pose()[:3]):
            self.fail(FENCE)
        self.samples.append(
            Sample(t_ns=t_ns, speed_m_s=self.body.speed_m_s, state=self._shown_state())
        )

    def fail(self, error: int) -> None:
        """Stops with an error code, as the controller does by itself."""
        self.error = error
        self.stop()
        if error <= 3:
            self.is_enabled = False

    def stop(self) -> None:
        """Stops and forgets the queue."""
        self._queue.clear()
        self._velocity_ends_ns = None
        self.body.halt(STOP_DECELERATION_M_S2)
        self.state = _STOPPED

    def values(self) -> ReportValues:
        """Returns what a report would tell now."""
        self._counter = (self._counter + 1) % 2**32
        return ReportValues(
            state=self._shown_state(),
            mode=self.mode,
            num_commands=len(self._queue),
            joints_rad=tuple(float(q) for q in self.body.joints_rad()),
            pose=tuple(self._pose()),
            is_enabled=self.is_enabled,
            error=self.error,
            warning=self.warning,
            axis=self.identity.axis,
            arm_type=self.identity.arm_type,
            version=self.identity.firmware,
            speed_mm_s=1000.0 * self.body.speed_m_s,
            counter=self._counter,
            **self.settings.reported(),
        )

    def _shown_state(self) -> int:
        if self.state != _STANDBY:
            return self.state
        return _RUNNING if self.body.is_moving else _STANDBY

    def _pose(self) -> list[float]:
        """Returns the pose of the point that the tool's offset says, millimetres and radians."""
        position_m, rotation_rad = self.body.pose()
        told_m = position_m + self.settings.beyond_tool_m(rotation_rad)
        return [*to_mm(list(told_m)), *rotation_rad]

    def _bits(self) -> StateBits:
        bits = StateBits.OK
        if self.state >= _STOPPED or not self.is_enabled:
            bits |= StateBits.NOT_READY
        if self.warning:
            bits |= StateBits.WARNING
        if self.error:
            bits |= StateBits.ERROR
        return bits

    def _data(self, data: bytes) -> Reply:
        return Reply(state=self._bits(), data=data)

    def _read_tool(self, request: Request) -> Reply:
        is_baud_rate = struct.unpack(">H", request.data[1:3]) == (_BAUD_RATE_ADDRESS,)
        return self._data(struct.pack(">i", _BAUD_RATE_2M if is_baud_rate else 0))

    def _ask_gripper(self, request: Request) -> Reply:
        if self.error == TOOL_LINE:
            return self._data(b"")
        return self._data(request.data[:1] + self.gripper.answer(request.data[1:]))

    def _enable(self, request: Request) -> Reply:
        self.is_enabled = bool(request.byte(1)) and not self.is_emergency_stop_pressed
        return self._data(b"")

    def _set_state(self, request: Request) -> Reply:
        wished = request.byte()
        if wished == 0 and not self.error and self.is_enabled:
            self.state = _STANDBY
        elif wished == _PAUSED and self.state == _STANDBY:
            self.body.halt(STOP_DECELERATION_M_S2)
            self.state = _PAUSED
        elif wished in (_STOPPED, 6):
            self.stop()
        return self._data(b"")

    def _set_mode(self, request: Request) -> Reply:
        self.stop()
        self.mode = request.byte()
        self.state = _CHANGING
        return self._data(b"")

    def _clean_error(self, request: Request) -> Reply:
        if not self.is_emergency_stop_pressed:
            self.error = 0
            self._step(self.body.t_ns)
        return self._data(b"")

    def _clean_warning(self, request: Request) -> Reply:
        self.warning = 0
        return self._data(b"")

    def _may_move(self) -> bool:
        return not self.error and self.is_enabled and self.state < _PAUSED

    def _record(self, request: Request, numbers: tuple[float, ...], *, is_taken: bool) -> None:
        is_line = request.register == Register.MOVE_LINE
        roll, pitch, yaw = numbers[3:6]
        self.motions.append(
            MotionFrame(
                t_ns=self.received[-1].t_ns,
                register=request.register,
                mode=self.mode,
                position_m=to_m(numbers[:3]),
                rotation_rad=(roll, pitch, yaw),
                speed_m_s=numbers[6] / 1000.0 if is_line else float("nan"),
                acceleration_m_s2=numbers[7] / 1000.0 if is_line else float("nan"),
                duration_s=None if is_line else numbers[6],
                is_taken=is_taken,
            )
        )

    def _move_line(self, request: Request) -> Reply:
        numbers = request.floats(9)
        target_m = np.array(to_m(numbers[:3])) - self.settings.beyond_tool_m(numbers[3:6])
        is_right_mode = self.mode in (_POSITION_MODE, _ONLINE_MODE)
        is_number = all(math.isfinite(x) for x in numbers[:8])
        is_taken = self._may_move() and is_right_mode and is_number
        self._record(request, numbers, is_taken=is_taken)
        if not is_right_mode or not is_number:
            return Reply(state=self._bits() | StateBits.INVALID, data=bytes(3))
        if is_taken and float(np.linalg.norm(target_m - _SHOULDER_M)) > _REACH_M:
            self.fail(PLANNING)
        elif is_taken:
            most_mm_s = self.settings.reduced_speed_mm_s if self.settings.is_reduced else 1000.0
            move = (target_m, min(numbers[6], most_mm_s) / 1000.0, numbers[7] / 1000.0)
            if self.mode == _ONLINE_MODE:
                self.body.move_to(*move)
            else:
                self._queue.append(move)
        return self._data(bytes(3))

    def _move_at(self, request: Request) -> Reply:
        velocity_mm_s = request.floats(6)
        duration_s = struct.unpack("<f", request.data[25:29])[0] if len(request.data) >= 29 else -1
        is_right_mode = self.mode == _VELOCITY_MODE
        is_taken = self._may_move() and is_right_mode
        self._record(request, (*velocity_mm_s, duration_s), is_taken=is_taken)
        if not is_right_mode:
            return Reply(state=self._bits() | StateBits.INVALID)
        if is_taken:
            self.body.move_at(np.array(velocity_mm_s[:3]) / 1000.0, STOP_DECELERATION_M_S2)
            ends = self.received[-1].t_ns + round(duration_s * 1e9)
            self._velocity_ends_ns = ends if duration_s > 0 else None
        return self._data(b"")
