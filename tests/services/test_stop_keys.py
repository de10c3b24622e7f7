"""Any key stops an arm that moves by itself; Enter answers a question first."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator

import pytest

from services.stop_keys import StopKeys
from services.terminal import Keyboard, KeyPress, NotATerminal
from tests.services.rig import wait_until


class CountingKeyboard(Keyboard):
    """Counts the keys that were taken from it, once whoever took them comes back for more."""

    num_taken = num_given = 0

    def take(self, timeout_s: float = 0.0) -> list[KeyPress]:
        self.num_taken = self.num_given
        taken = super().take(timeout_s)
        self.num_given += len(taken)
        return taken


class Typed:
    """Stop keys on a pseudo-terminal, in the hands of a test."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.now_ns = 0
        self.stops: list[str] = []
        self.num_typed = 0
        self.keyboard = CountingKeyboard(self.slave, now_ns=lambda: self.now_ns)
        self.keys = StopKeys(lambda: self.stops.append("stop"), self.keyboard)

    def type(self, text: bytes) -> None:
        self.num_typed += len(text)
        os.write(self.master, text)

    def ask(self) -> threading.Thread:
        """Asks in a thread of its own, which ends with the answer."""
        asking = threading.Thread(target=lambda: self.keys.ask("ready?"), daemon=True)
        asking.start()
        return asking


@pytest.fixture
def typed() -> Iterator[Typed]:
    made = Typed()
    with made.keys:
        yield made
    os.close(made.master)
    os.close(made.slave)


@pytest.mark.parametrize("key", [b"x", b" ", b"\x1b", b"\r", b"\x1b[15~", b"\x1c"])
def test_any_key_stops_the_arm_and_so_does_the_next(typed: Typed, key: bytes) -> None:
    typed.type(key)
    wait_until(lambda: typed.stops == ["stop"])
    typed.type(key)
    wait_until(lambda: typed.stops == ["stop", "stop"])


def test_enter_answers_and_is_no_stop_while_it_is_held(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = typed.ask()
    wait_until(lambda: "ready?" in capsys.readouterr().out)
    typed.type(b"w")  # of no meaning while nothing moves
    typed.type(b"\r")
    asking.join(20.0)
    assert not asking.is_alive()
    again = typed.ask()
    wait_until(lambda: "ready?" in capsys.readouterr().out)
    for ms in (500, 530, 560, 600):  # as a terminal repeats it
        typed.now_ns = ms * 1_000_000
        typed.type(b"\r")
        wait_until(lambda: typed.keyboard.num_taken == typed.num_typed)
    assert typed.stops == []
    assert again.is_alive(), "an Enter that is still held does not answer the next question"
    typed.now_ns = 2_000_000_000
    typed.type(b"\r")
    again.join(20.0)
    assert not again.is_alive()
    typed.now_ns = 3_000_000_000
    typed.type(b"\r")
    wait_until(lambda: typed.stops == ["stop"])


def test_escape_stops_and_ends_the_question(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = typed.ask()
    wait_until(lambda: "ready?" in capsys.readouterr().out)
    typed.type(b"\x1b")
    wait_until(lambda: typed.stops == ["stop"])
    asking.join(20.0)
    assert not asking.is_alive()


def test_without_a_terminal_it_is_said_and_nothing_is_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    stops: list[str] = []
    with StopKeys(lambda: stops.append("stop"), Keyboard(reader)) as keys:
        assert "no key stops the arm" in capsys.readouterr().err
        with pytest.raises(NotATerminal, match="needed to answer: ready"):
            keys.ask("ready?")
    assert stops == []
    os.close(reader)
    os.close(writer)
