"""A gamepad as Linux shows it: /dev/input/jsN or /dev/input/eventN, read without a library.

Reading never waits. A gamepad that goes away stands still from that moment on (`state` is None) and
is opened again once it is back. Sticks and buttons go by the kernel's codes, which say where a
button is and not what is printed on it; a joystick device numbers them as it likes and is asked for
its codes. Both formats are in the kernel's Documentation/input (joystick-api, event-codes).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from robot.teleop import PadState

_ABS_X, _ABS_Y, _ABS_RX, _ABS_RY, _HAT_X, _HAT_Y = 0x00, 0x01, 0x03, 0x04, 0x10, 0x11
_SOUTH, _EAST, _LEFT_SHOULDER, _SELECT, _START = 0x130, 0x131, 0x136, 0x13A, 0x13B
BUTTONS: Mapping[int, str] = {_LEFT_SHOULDER: "i", _SELECT: "escape", _START: "start"}
"""Buttons that stand for a key, by the kernel's code."""
CROSS: Mapping[tuple[int, int], str] = {
    (_HAT_Y, -1): "y",
    (_HAT_Y, 1): "n",
    (_HAT_X, -1): "x",
    (_HAT_X, 1): "p",
}
"""The direction pad, likewise: up, down, left, right."""

_JS_EVENT = struct.Struct("=IhBB")
_JS_BUTTON, _JS_AXIS, _JS_INIT = 0x01, 0x02, 0x80
_JS_FULL = 32767
_EV_EVENT = struct.Struct("@llHHi")
_EV_SYN, _EV_KEY, _EV_ABS, _SYN_DROPPED = 0x00, 0x01, 0x03, 3
_ABSINFO = struct.Struct("=6i")
# As the Xbox driver numbers them; what cannot be asked for its codes is taken for one of these.
_XPAD_AXES = (_ABS_X, _ABS_Y, 0x02, _ABS_RX, _ABS_RY, 0x05, _HAT_X, _HAT_Y)
_XPAD_BUTTONS = (_SOUTH, _EAST, 0x133, 0x134, _LEFT_SHOULDER, 0x137, _SELECT, _START)
_XPAD_RANGE = (-32768, 32767)
_AGAIN_NS = 1_000_000_000


class Gamepad:
    """One gamepad, there or not.

    Args:
        path: Its device file; a name that begins with `js` is a joystick device, any other an
            event device.
        now_ns: Monotonic time.
    """

    def __init__(self, path: Path, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self._is_joystick = path.name.startswith("js")
        self._now_ns = now_ns
        self._fd = -1
        self._tried_ns: int | None = None
        self._rest = b""
        self._axes: dict[int, float] = {}
        self._held: set[int] = set()
        self._pressed: list[str] = []
        self._axis_codes: tuple[int, ...] = _XPAD_AXES
        self._button_codes: tuple[int, ...] = _XPAD_BUTTONS
        self._ranges: dict[int, tuple[int, int]] = {}

    @property
    def state(self) -> PadState | None:
        """Where sticks and buttons stand; None while there is no gamepad."""
        if self._fd < 0:
            return None
        return PadState(
            # The kernel counts a stick's way down and to the right.
            forward=-self._axes.get(_ABS_Y, 0.0),
            left=-self._axes.get(_ABS_X, 0.0),
            up=-self._axes.get(_ABS_RY, 0.0),
            is_closing=_SOUTH in self._held,
            is_opening=_EAST in self._held,
        )

    def poll(self) -> list[str]:
        """Takes in what came since the last call; returns the buttons pressed, named as keys."""
        if self._fd < 0:
            self._open()
        while self._fd >= 0:
            try:
                data = os.read(self._fd, 4096)
            except BlockingIOError:
                break
            except OSError:  # unplugged
                data = b""
            if not data:
                self.close()
                break
            self._take(data)
        pressed, self._pressed = self._pressed, []
        return pressed

    def close(self) -> None:
        """Lets go of the device; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._rest = -1, b""
        self._stand_still()

    def _open(self) -> None:
        now_ns = self._now_ns()
        if self._tried_ns is not None and now_ns - self._tried_ns < _AGAIN_NS:
            return
        self._tried_ns = now_ns
        with contextlib.suppress(OSError):  # it is not there, or not ours to read
            self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._ask_for_codes()

    def _ask_for_codes(self) -> None:
        self._ranges = {}
        with contextlib.suppress(OSError):
            if self._is_joystick:
                axes = fcntl.ioctl(self._fd, _read_request("j", 0x32, 64), bytes(64))
                buttons = fcntl.ioctl(self._fd, _read_request("j", 0x34, 1024), bytes(1024))
                self._axis_codes = struct.unpack("=64B", axes)
                self._button_codes = struct.unpack("=512H", buttons)
                return
            for code in (_ABS_X, _ABS_Y, _ABS_RX, _ABS_RY):
                request = _read_request("E", 0x40 + code, _ABSINFO.size)
                info = _ABSINFO.unpack(fcntl.ioctl(self._fd, request, bytes(_ABSINFO.size)))
                self._ranges[code] = (info[1], info[2])
                self._move(code, info[0])

    def _take(self, data: bytes) -> None:
        event = _JS_EVENT if self._is_joystick else _EV_EVENT
        data = self._rest + data
        whole = len(data) - len(data) % event.size
        self._rest = data[whole:]
        for fields in event.iter_unpack(data[:whole]):
            if self._is_joystick:
                self._take_joystick(*fields[1:])
            else:
                self._take_event(*fields[2:])

    def _take_joystick(self, value: int, kind: int, number: int) -> None:
        is_news = not kind & _JS_INIT
        if kind & _JS_BUTTON and number < len(self._button_codes):
            self._press(self._button_codes[number], is_down=value != 0, is_news=is_news)
        elif kind & _JS_AXIS and number < len(self._axis_codes):
            self._set_axis(self._axis_codes[number], value / _JS_FULL, is_news=is_news)

    def _take_event(self, kind: int, code: int, value: int) -> None:
        if kind == _EV_KEY and value != 2:  # 2 is a repeat
            self._press(code, is_down=value != 0, is_news=True)
        elif kind == _EV_ABS:
            self._move(code, value)
        elif kind == _EV_SYN and code == _SYN_DROPPED:
            # Events were lost, of a stick let go perhaps: what is not known stands still.
            self._stand_still()

    def _move(self, code: int, value: int) -> None:
        if code in (_HAT_X, _HAT_Y):
            self._set_axis(code, float(value), is_news=True)
            return
        low, high = self._ranges.get(code, _XPAD_RANGE)
        if high > low:
            self._set_axis(code, 2.0 * (value - low) / (high - low) - 1.0, is_news=True)

    def _set_axis(self, code: int, value: float, *, is_news: bool) -> None:
        before, now = self._axes.get(code, 0.0), min(1.0, max(-1.0, value))
        self._axes[code] = now
        if is_news and round(before) != round(now) and (code, round(now)) in CROSS:
            self._pressed.append(CROSS[code, round(now)])

    def _press(self, code: int, *, is_down: bool, is_news: bool) -> None:
        if is_down and is_news and code not in self._held and code in BUTTONS:
            self._pressed.append(BUTTONS[code])
        (self._held.add if is_down else self._held.discard)(code)

    def _stand_still(self) -> None:
        self._axes.clear()
        self._held.clear()


def _read_request(kind: str, number: int, size: int) -> int:
    """Returns the number of an ioctl that reads `size` bytes, _IOR of the kernel's headers."""
    return 2 << 30 | size << 16 | ord(kind) << 8 | number
