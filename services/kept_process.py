"""A child process that its owner keeps alive: started, watched, started again after a pause."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 20.0


class KeptProcess:
    """One program, running or waiting to be started again.

    It gets a session of its own, so that Ctrl-C reaches it through its owner only, and prints where
    its owner prints.

    Args:
        name: For messages and for the file NAME.pid.
        arguments: Its command line.
        folder: Where the file with its process id goes.
        pass_fds: Open files that it inherits.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, folder: Path, pass_fds: Sequence[int] = ()
    ) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._pid_file = folder / f"{name}.pid"
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._start_at_s: float | None = 0.0
        self.last_code: int | None = None
        """How it ended, if `wait` was the first to see that; else None."""

    def keep(self) -> int | None:
        """Starts it if that is due; returns how it ended if it just has, else None."""
        if self._process is None:
            if self._start_at_s is not None and time.monotonic() >= self._start_at_s:
                self._start()
            return None
        code = self._process.poll()
        if code is not None:
            self._forget()
        return code

    def start_again(self) -> None:
        """Has `keep` start it after a pause, which doubles while it does not stay up."""
        now_s = time.monotonic()
        if now_s - self._started_s >= _STEADY_S:
            self._pause_s = _FIRST_PAUSE_S
        self._start_at_s = now_s + self._pause_s
        logger.info("event=restart process=%s pause_s=%.1f", self.name, self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def is_alive(self) -> bool:
        """Whether it runs right now."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Waits for its end; False if it still runs then."""
        if self._process is not None:
            try:
                self.last_code = self._process.wait(max(0.0, timeout_s))
            except subprocess.TimeoutExpired:
                return False
            self._forget()
        return True

    def kill(self) -> None:
        """Ends it at once."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._forget()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            self._arguments,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self._pass_fds,
        )
        self._started_s = time.monotonic()
        self._start_at_s = None
        try:
            self._pid_file.write_text(f"{self._process.pid}\n", encoding="ascii")
        except OSError as error:  # a full disk must not keep a process from being started again
            logger.warning("event=pid_file_not_written file=%s reason=%s", self._pid_file, error)
        logger.info("event=started process=%s pid=%d", self.name, self._process.pid)

    def _forget(self) -> None:
        self._process = None
        try:
            self._pid_file.unlink(missing_ok=True)
        except OSError as error:  # nor keep the others from being ended
            logger.warning("event=pid_file_not_removed file=%s reason=%s", self._pid_file, error)


def describe_end(code: int) -> str:
    """Returns an exit code in words: `exit 1`, or the name of the signal that killed it."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
