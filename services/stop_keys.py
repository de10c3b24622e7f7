"""A person at the keyboard while an arm moves by itself: any key stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from services import console
from services.held_keys import HeldKeys
from services.terminal import ESCAPE, GONE, Keyboard, KeyPress, NotATerminal

_LOOK_S = 0.02
_ENTER = "enter"


class StopKeys:
    """Stops an arm when a key is pressed or the terminal closes while the `with` block lasts.

    A question is answered with Enter, and meanwhile only Escape stops. Without a terminal there are
    no keys, which is said, and nothing can be asked.

    Args:
        stop: Stops the arm; called in this object's thread.
        keyboard: None for standard input.
    """

    def __init__(self, stop: Callable[[], None], keyboard: Keyboard | None = None) -> None:
        self._stop = stop
        self._keyboard = keyboard
        self._has_keys = False
        self._is_asking = False
        self._held, self._has_answered = HeldKeys(), False
        self._changed = threading.Condition()
        self._done = threading.Event()

    def ask(self, text: str) -> None:
        """Prints one line and waits until a person presses Enter, or stops the arm.

        Raises:
            NotATerminal: Nobody can answer.
        """
        if not self._has_keys:
            raise NotATerminal(f"a terminal is needed to answer: {text}")
        with self._changed:
            self._is_asking = True
            console.say(text)
            self._changed.wait_for(lambda: not self._is_asking)

    def __enter__(self) -> StopKeys:
        try:
            self._keyboard = self._keyboard or Keyboard()
            self._keyboard.__enter__()
        except (NotATerminal, OSError):  # OSError: standard input is no file at all
            console.complain("no terminal, so that no key stops the arm: Ctrl-C, or actor stop")
            return self
        self._has_keys = True
        console.complain("any key stops the arm, and keeps it stopped")
        self._thread = threading.Thread(
            target=self._run, args=(self._keyboard,), name="stop-keys", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._has_keys and self._keyboard is not None:
            self._done.set()
            self._thread.join()
            self._keyboard.__exit__(kind, error, trace)

    def _run(self, keyboard: Keyboard) -> None:
        while not self._done.is_set():
            if any([self._is_stop(press) for press in keyboard.take(_LOOK_S)]):
                # Every time: one stop may not have been heard.
                self._stop()
                self._answer()

    def _is_stop(self, press: KeyPress) -> bool:
        """Takes one key; returns whether it stops the arm."""
        is_repeat = self._held.is_repeat(press)
        if press.key == _ENTER and is_repeat and (self._has_answered or self._is_asking):
            # An Enter that answered and is still held neither stops nor answers the next question.
            return False
        self._has_answered = press.key == _ENTER and self._is_asking
        if self._has_answered:
            self._answer()
            return False
        return not self._is_asking or press.key in (ESCAPE, GONE)

    def _answer(self) -> None:
        with self._changed:
            self._is_asking = False
            self._changed.notify_all()
