"""A gamepad, fed through a named pipe in the kernel's two formats."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.gamepad import Gamepad
from robot.teleop import PadState

S = 1_000_000_000
AXIS, BUTTON, INIT = 2, 1, 0x80
KEY, ABS = 1, 3


class Pipe:
    """A named pipe where a device file would be, and the gamepad that reads it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.now_ns = 0
        self.pad = Gamepad(path, lambda: self.now_ns)
        # Without a reader a pipe cannot be opened for writing without waiting.
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(path, os.O_WRONLY)
        assert self.pad.poll() == []
        os.close(reader)

    def joystick(self, kind: int, number: int, value: int) -> list[str]:
        return self.feed(struct.pack("=IhBB", 1234, value, kind, number))

    def event(self, kind: int, code: int, value: int) -> list[str]:
        return self.feed(struct.pack("@llHHi", 1, 2, kind, code, value))

    def feed(self, data: bytes) -> list[str]:
        os.write(self._writer, data)
        return self.pad.poll()

    @property
    def state(self) -> PadState:
        state = self.pad.state
        assert state is not None
        return state

    def unplug(self) -> None:
        os.close(self._writer)
        self._writer = -1

    def plug(self) -> None:
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(self.path, os.O_WRONLY)
        self.pad.poll()
        os.close(reader)

    def close(self) -> None:
        self.pad.close()
        if self._writer >= 0:
            os.close(self._writer)


@pytest.fixture
def joystick(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "js0")
    yield pipe
    pipe.close()


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "event3")
    yield pipe
    pipe.close()


def test_a_joystick_device_moves_and_grips(joystick: Pipe) -> None:
    assert joystick.state == PadState()
    joystick.joystick(AXIS, 1, -32767)  # left stick pushed away
    joystick.joystick(AXIS, 0, -16384)  # and to the left
    joystick.joystick(AXIS, 4, 32767)  # right stick pulled near
    joystick.joystick(BUTTON, 0, 1)
    assert joystick.state == PadState(
        forward=1.0, left=pytest.approx(0.5, abs=1e-3), up=-1.0, is_closing=True
    )
    joystick.joystick(BUTTON, 0, 0)
    joystick.joystick(BUTTON, 1, 1)
    joystick.joystick(AXIS, 1, 0)
    assert (joystick.state.is_closing, joystick.state.is_opening) == (False, True)
    assert joystick.state.forward == 0.0


def test_an_event_device_moves_and_grips(events: Pipe) -> None:
    events.event(ABS, 0x01, -32768)
    events.event(ABS, 0x00, 32767)
    events.event(ABS, 0x04, 0)
    events.event(KEY, 0x131, 1)
    assert events.state.forward == 1.0
    assert events.state.left == -1.0
    assert events.state.up == pytest.approx(0.0, abs=1e-4)
    assert events.state.is_opening
    events.event(KEY, 0x131, 2)  # a repeat
    assert events.state.is_opening
    events.event(KEY, 0x131, 0)
    assert not events.state.is_opening


def test_buttons_are_keys_once_a_press_in_both_formats(joystick: Pipe, events: Pipe) -> None:
    assert joystick.joystick(BUTTON, 7, 1) == ["start"]
    assert joystick.joystick(BUTTON, 7, 0) == []
    assert joystick.joystick(BUTTON, 4, 1) == ["i"]
    assert [joystick.joystick(AXIS, 7, v) for v in (-32767, -32767, 0, 32767)] == [
        ["y"],
        [],
        [],
        ["n"],
    ]
    assert events.event(KEY, 0x13B, 1) == ["start"]
    assert events.event(KEY, 0x13B, 2) == []
    assert [events.event(ABS, 0x10, v) for v in (-1, 0, 1, -1)] == [["x"], [], ["p"], ["x"]]


def test_what_is_held_when_it_is_opened_is_no_press(joystick: Pipe) -> None:
    assert joystick.joystick(BUTTON | INIT, 7, 1) == []
    assert joystick.joystick(AXIS | INIT, 7, -32767) == []
    joystick.joystick(AXIS | INIT, 1, -32767)
    assert joystick.state.forward == 1.0


def test_events_in_pieces_and_of_unknown_numbers_do_no_harm(joystick: Pipe, events: Pipe) -> None:
    data = struct.pack("=IhBB", 0, -32767, AXIS, 1)
    assert joystick.feed(data[:3]) == []
    assert joystick.state.forward == 0.0
    joystick.feed(data[3:])
    assert joystick.state.forward == 1.0
    for kind, number in ((AXIS, 200), (BUTTON, 255), (0, 0), (0x7F, 3)):
        joystick.joystick(kind, number, 1)
    assert joystick.state.forward == 1.0
    events.feed(bytes(24 * 100))
    assert events.state == PadState()


def test_lost_events_let_everything_go(events: Pipe) -> None:
    events.event(ABS, 0x01, -32768)
    events.event(KEY, 0x130, 1)
    events.event(0, 3, 0)
    assert events.state == PadState()


def test_an_unplugged_gamepad_stands_still_until_it_is_back(joystick: Pipe) -> None:
    joystick.joystick(AXIS, 1, -32767)
    joystick.joystick(BUTTON, 0, 1)
    joystick.unplug()
    assert joystick.pad.poll() == []
    assert joystick.pad.state is None
    joystick.now_ns = 2 * S
    assert joystick.pad.poll() == []
    assert joystick.pad.state is None  # a pipe nobody writes to is no gamepad either
    joystick.now_ns = 4 * S
    joystick.plug()
    assert joystick.state == PadState()  # nothing of before
    joystick.joystick(AXIS, 0, 32767)
    assert joystick.state.left == -1.0


def test_a_device_that_is_not_there_is_looked_for_once_a_second(tmp_path: Path) -> None:
    now_ns = [0]
    pad = Gamepad(tmp_path / "js0", lambda: now_ns[0])
    assert pad.poll() == []
    os.mkfifo(pad.path)
    writer = os.open(pad.path, os.O_RDWR)
    now_ns[0] = S - 1
    pad.poll()
    assert pad.state is None
    now_ns[0] = S
    pad.poll()
    assert pad.state == PadState()
    pad.close()
    pad.close()
    os.close(writer)
