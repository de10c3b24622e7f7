r"""The terminal as a keyboard: every key as it is pressed, and the terminal as it was afterwards.

Keys come without Enter and are not shown; what was typed before the block is thrown away. Ctrl-C
still sends SIGINT. Ctrl-Z, Ctrl-S and Ctrl-\ are keys like others: a program that moves an arm is
not to be suspended or torn down by a slip. A thread of its own reads, so nobody who asks for keys
ever waits for a person. The settings are put back however the block ends, by an exception too; only
SIGKILL cannot be helped, and `stty sane` mends that.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

GONE = "gone"
"""The key that is handed out last, once nobody can type any more: the terminal was closed."""
ESCAPE = "escape"
OTHER = "other"
"""Any key without a name here."""
_ARROWS = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}
_NAMES = {b" ": "space", b"\r": "enter", b"\n": "enter", b"\x7f": "backspace", b"\t": "tab"}
_ESCAPE_S = 0.05
_LFLAG, _IFLAG, _CC = 3, 0, 6


@dataclass(frozen=True, kw_only=True)
class KeyPress:
    """One key, once pressed or repeated."""

    key: str
    """Lower case: a letter, a digit, `up`, `down`, `left`, `right`, `space`, `enter`, `escape`,
    `GONE`, ..."""
    t_ns: int
    """When it was read, monotonic."""


class KeyParser:
    """Turns the bytes of a terminal into the names of keys, also when they come in pieces."""

    def __init__(self) -> None:
        self._pending = b""

    @property
    def is_waiting(self) -> bool:
        """Whether an Escape came that may be the beginning of another key."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[str]:
        """Takes bytes; returns the keys that are complete now."""
        self._pending += data
        keys: list[str] = []
        while self._pending:
            key, length = _first_key(self._pending)
            if length == 0:
                break
            self._pending = self._pending[length:]
            keys.append(key)
        return keys

    def flush(self) -> list[str]:
        """Says that nothing followed for a while: an Escape was the key itself."""
        keys = [ESCAPE] if self._pending.startswith(b"\x1b") else []
        self._pending = b""
        return keys


def _first_key(data: bytes) -> tuple[str, int]:
    """Returns the first key and how many bytes it has; 0 when more must come."""
    first = data[:1]
    if first != b"\x1b":
        name = _NAMES.get(first)
        if name is None and b" " < first < b"\x7f":
            name = first.decode("ascii").lower()
        return name or OTHER, 1
    if len(data) == 1:
        return "", 0
    if data[1:2] not in (b"[", b"O"):
        return ESCAPE, 1
    if data[2:3] == b"[":  # a function key of the Linux console: one letter more
        return (OTHER, 4) if len(data) > 3 else ("", 0)
    for end in range(2, len(data)):
        if 0x40 <= data[end] <= 0x7E:
            return (_ARROWS.get(data[end : end + 1], OTHER) if end == 2 else OTHER), end + 1
    return "", 0


class Keyboard:
    """Reads keys from a terminal while the `with` block lasts.

    Args:
        fd: The terminal; None for standard input.
        now_ns: Monotonic time.

    Raises:
        NotATerminal: `fd` is none; raised by `with`.
    """

    def __init__(
        self, fd: int | None = None, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._now_ns = now_ns
        self._presses: queue.SimpleQueue[KeyPress] = queue.SimpleQueue()
        self._saved: list[Any] | None = None
        self._wake_r, self._wake_w = -1, -1
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)

    def take(self, timeout_s: float = 0.0) -> list[KeyPress]:
        """Returns the keys pressed since the last call.

        Args:
            timeout_s: How long to wait for the first one; 0 never waits.
        """
        taken: list[KeyPress] = []
        with contextlib.suppress(queue.Empty):
            if timeout_s > 0:
                taken.append(self._presses.get(timeout=timeout_s))
            while True:
                taken.append(self._presses.get_nowait())
        return taken

    def __enter__(self) -> Keyboard:
        try:
            self._saved = termios.tcgetattr(self._fd)
        except (termios.error, OSError) as error:
            raise NotATerminal(
                f"a terminal is needed to steer and to answer, this is none: {error}"
            ) from error
        self._wake_r, self._wake_w = os.pipe()
        raw = termios.tcgetattr(self._fd)
        raw[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        raw[_IFLAG] &= ~termios.IXON
        raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
        raw[_CC][termios.VSUSP] = raw[_CC][termios.VQUIT] = b"\0"
        # What was typed before is no answer to anything that is asked from now on.
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, raw)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._wake_w)
        self._thread.join()
        os.close(self._wake_r)
        assert self._saved is not None
        with contextlib.suppress(termios.error):  # the terminal is gone
            # What was typed and not read is not meant for the shell that comes next.
            termios.tcflush(self._fd, termios.TCIFLUSH)
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)

    def _read(self) -> None:
        parser = KeyParser()
        while True:
            timeout_s = _ESCAPE_S if parser.is_waiting else None
            ready, _, _ = select.select([self._fd, self._wake_r], [], [], timeout_s)
            if self._wake_r in ready:
                return
            try:
                data = os.read(self._fd, 1024) if ready else None
            except OSError:  # a terminal whose other side hung up
                data = b""
            keys = parser.flush() if data is None else parser.feed(data)
            now_ns = self._now_ns()
            for key in keys if data != b"" else [GONE]:
                self._presses.put(KeyPress(key=key, t_ns=now_ns))
            if data == b"":
                return


class NotATerminal(RuntimeError):
    """Nobody can type here."""
