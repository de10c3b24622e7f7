"""A person at a pseudo-terminal: reads what a program says, and types."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from services import desk_texts
from tests.services.rig import ROOT


class Typist:
    """A command of offworld on a terminal of its own.

    Args:
        arguments: Its command line after `offworld`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._master, self.terminal = pty.openpty()
        self.before = self.settings()
        self.text = ""
        self._read_to = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *arguments],
            cwd=ROOT,
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "dumb"},
        )

    def settings(self) -> list[Any]:
        """Returns what the terminal is set to."""
        return termios.tcgetattr(self.terminal)

    def type(self, keys: bytes) -> None:
        """Types."""
        os.write(self._master, keys)

    def until(self, *said: str, timeout_s: float = 40.0) -> str:
        """Reads until the program has said one of these, after what it was waited for before.

        Returns:
            Which one came first.
        """
        deadline = time.monotonic() + timeout_s
        while not (found := self._find(said)):
            is_over = self.process.poll() is not None
            if not self._read(0.05) and is_over:
                raise AssertionError(f"ended without saying {said}:\n{self.text}")
            assert time.monotonic() < deadline, f"did not say {said}:\n{self.text}"
        at = min(found)
        self._read_to = at + len(found[at])
        return found[at]

    def _find(self, said: Sequence[str]) -> dict[int, str]:
        """Returns what has been said of these, by where."""
        places = {self.text.find(each, self._read_to): each for each in said}
        return {at: each for at, each in places.items() if at >= 0}

    def let_begin(self, number: int, press: Callable[[], object] | None = None) -> None:
        """Lets a trial begin, as a person does who may have been told that it was too soon.

        Args:
            number: Of the trial that is asked for next.
            press: What to do for it; None presses space.
        """
        self.until(f"trial {number}: put the object back", timeout_s=60.0)
        while True:
            (press or (lambda: self.type(b" ")))()
            if self.until(desk_texts.TOO_SOON, f"trial {number}: the arm goes") != (
                desk_texts.TOO_SOON
            ):
                return
            time.sleep(1.1)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Reads until the program has ended; returns its exit code."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            self._read(0.05)
            assert time.monotonic() < deadline, f"goes on:\n{self.text}"
        while self._read(0.0):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """Closes the terminal, as a lost connection does."""
        os.close(self._master)
        self._master = -1

    def _read(self, timeout_s: float) -> bool:
        if self._master < 0:
            time.sleep(timeout_s)
            return False
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        self.text += os.read(self._master, 65536).decode(errors="replace")
        return True

    def __enter__(self) -> Typist:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            # Its own session: it and what it started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self.terminal)
        if self._master >= 0:
            os.close(self._master)
