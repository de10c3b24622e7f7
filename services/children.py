"""Programs started by a program: their logs, their end, and how much memory all of them hold."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from learner.child_processes import has_not_ended, stat_of
from services.process import end_with_parent

logger = logging.getLogger(__name__)

STOP_S = 30.0
"""How long a program may take to end after SIGTERM."""
_END_S = 5.0
_LOOK_S = 0.01


class Child:
    """A program that ends with its owner, however that ends.

    It has a session of its own, so that Ctrl-C reaches it through its owner only.

    Args:
        name: What to call it in messages.
        arguments: Its command line.
        log: File that gets what it prints, appended.
        environment: Variables added to ours.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "services.children", str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        """Process id, also that of its session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Waits for its end; returns the exit code, or None if it still runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout_s: float = STOP_S) -> int:
        """Asks it to stop, and ends it and all it started if it does not; returns the exit code.

        Nothing of it runs any more afterwards.
        """
        below = {pid: _start_ticks(pid) for pid in descendants(self.pid)}
        if self.exit_code is None:
            self._process.terminate()
        code = self.wait(timeout_s)
        # What it left behind: its session, and children that made sessions of their own.
        _kill_session(self.pid)
        left = {pid: start for pid, start in below.items() if start is not None}
        for pid, start in left.items():
            if _start_ticks(pid) == start:
                _kill(pid)
        # A kill returns before what is killed has ended.
        deadline_s = time.monotonic() + _END_S
        while any(_start_ticks(pid) == start for pid, start in left.items()):
            if time.monotonic() > deadline_s:
                logger.warning("event=not_ended child=%s waited_s=%.0f", self.name, _END_S)
                break
            time.sleep(_LOOK_S)
        return self._process.wait() if code is None else code

    def log_tail(self, num_lines: int = 15) -> str:
        """Returns the last lines it printed."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-num_lines:])

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class MemoryWatch:
    """Samples the memory of this process and everything below it; Linux only, else 0.

    Args:
        period_s: Time between samples.
    """

    def __init__(self, period_s: float = 2.0) -> None:
        self.peak_bytes = 0
        """Largest sum of what each process holds, pages that several share counted once."""
        self.peak_resident_bytes = 0
        """Largest sum of resident sizes: shared pages count in every process that has them."""
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            pids = [os.getpid(), *descendants(os.getpid())]
            sizes = [memory_bytes(pid) for pid in pids]
            self.peak_resident_bytes = max(self.peak_resident_bytes, sum(s[0] for s in sizes))
            self.peak_bytes = max(self.peak_bytes, sum(s[1] for s in sizes))
            if self._stop.wait(self._period_s):
                return


def offworld(*arguments: str) -> list[str]:
    """Returns the command line that runs a command of this installation."""
    return [sys.executable, "-m", "services.cli", *arguments]


def descendants(pid: int) -> list[int]:
    """Returns the processes below `pid`, children before their children; Linux only, else none."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        fields = stat_of(int(folder.name))
        if fields:
            children.setdefault(int(fields[2]), []).append(int(folder.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def memory_bytes(pid: int) -> tuple[int, int]:
    """Returns a process's resident memory, and its share of it; zeros when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0, 0
    sizes = dict.fromkeys(("Rss", "Pss"), 0)
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) << 10
    return sizes["Rss"], sizes["Pss"]


def _start_ticks(pid: int) -> str | None:
    """Returns when a process began, which tells it from a later one; None if it has ended."""
    fields = stat_of(pid)
    return fields[20] if has_not_ended(fields) else None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _become(parent_pid: int, arguments: Sequence[str]) -> None:
    """Turns this process into a program that gets SIGTERM when `parent_pid` ends."""
    end_with_parent(parent_pid)
    os.execv(arguments[0], list(arguments))  # noqa: S606


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
