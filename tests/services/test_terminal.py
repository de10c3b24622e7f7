"""The terminal as a keyboard: what keys are called, and that it is left as it was found."""

from __future__ import annotations

import os
import pty
import select
import termios
from collections.abc import Iterator

import pytest

from services.terminal import GONE, Keyboard, KeyParser, NotATerminal
from tests.services.rig import wait_until


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"w", ["w"]),
        (b"W9!", ["w", "9", "!"]),
        (b" \r\n\t\x7f", ["space", "enter", "enter", "tab", "backspace"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA", ["up"]),
        (b"\x1b[1;5Aw", ["other", "w"]),  # Ctrl-Up is no Up
        (b"\x1b[3~\x1b[15~q", ["other", "other", "q"]),
        (b"\x1b[[A\x1b[[Cw", ["other", "other", "w"]),  # F1 and F3 of the Linux console
        (b"\x1bw", ["escape", "w"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
        (b"\xc3\xa4\x1cw", ["other", "other", "other", "w"]),
    ],
)
def test_keys_have_names_also_when_they_come_byte_by_byte(data: bytes, keys: list[str]) -> None:
    assert KeyParser().feed(data) == keys
    parser = KeyParser()
    assert [key for at in range(len(data)) for key in parser.feed(data[at : at + 1])] == keys
    assert not parser.is_waiting


def test_an_escape_that_nothing_follows_is_a_key_of_its_own() -> None:
    parser = KeyParser()
    assert parser.feed(b"\x1b") == []
    assert parser.is_waiting
    assert parser.flush() == ["escape"]
    assert not parser.is_waiting
    assert parser.flush() == []
    # A sequence that broke off is taken for the safe one of its two meanings.
    assert parser.feed(b"\x1b[") == []
    assert parser.flush() == ["escape"]


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    os.close(slave)


def test_keys_arrive_without_enter_in_order_and_unseen(ends: tuple[int, int]) -> None:
    master, slave = ends
    with Keyboard(slave, lambda: 7) as keyboard:
        os.write(master, b"wa\x1b")
        pressed = []
        wait_until(lambda: len(pressed.__iadd__(keyboard.take())) >= 3, what="three keys")
        assert [(p.key, p.t_ns) for p in pressed] == [("w", 7), ("a", 7), ("escape", 7)]
        assert keyboard.take() == []
        os.write(slave, b"end")
        assert os.read(master, 100) == b"end"  # nothing was echoed before it
        os.write(master, b"q")
        assert [p.key for p in keyboard.take(timeout_s=10.0)] == ["q"]
    os.close(master)


def test_ctrl_c_is_left_alone_and_ctrl_z_and_ctrl_s_are_not(ends: tuple[int, int]) -> None:
    master, slave = ends
    with Keyboard(slave):
        now = termios.tcgetattr(slave)
        assert now[3] & termios.ISIG
        assert now[6][termios.VINTR] == b"\x03"
        assert now[6][termios.VSUSP] == now[6][termios.VQUIT] == b"\0"
        assert not now[0] & termios.IXON
        assert now[1] & termios.OPOST  # lines that are printed begin at the left
    os.close(master)


def test_what_was_typed_before_is_no_key(ends: tuple[int, int]) -> None:
    master, slave = ends
    os.write(master, b" \n")
    wait_until(lambda: bool(select.select([slave], [], [], 0)[0]), what="the terminal has it")
    with Keyboard(slave) as keyboard:
        os.write(master, b"w")
        assert [p.key for p in keyboard.take(timeout_s=10.0)] == ["w"]
    os.close(master)


def test_settings_come_back_after_an_exception_and_typed_keys_are_thrown_away(
    ends: tuple[int, int],
) -> None:
    master, slave = ends
    before = termios.tcgetattr(slave)
    during = []

    def work() -> None:
        with Keyboard(slave):
            during.append(termios.tcgetattr(slave))
            raise RuntimeError("of the robot")

    with pytest.raises(RuntimeError, match="of the robot"):
        work()
    assert during != [before]
    assert termios.tcgetattr(slave) == before
    os.write(master, b"next\n")
    assert os.read(slave, 100) == b"next\n"
    os.close(master)


def test_a_terminal_that_goes_away_is_the_last_key_and_ending_still_works(
    ends: tuple[int, int],
) -> None:
    master, slave = ends
    with Keyboard(slave) as keyboard:
        os.close(master)
        assert [p.key for p in keyboard.take(timeout_s=10.0)] == [GONE]
        assert keyboard.take() == []


def test_what_is_no_terminal_is_refused_in_words() -> None:
    read, write = os.pipe()
    with pytest.raises(NotATerminal, match="a terminal is needed"), Keyboard(read):
        pass
    os.close(read)
    os.close(write)
