"""What every process of offworld does alike: exit codes, signals, the end of the parent.

Imports the standard library only, so the control loop can use it too.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import gc
import importlib.metadata
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_ECHO_S = 1.0


class ExitCode(IntEnum):
    """What a process tells its supervisor by ending."""

    DONE = 0
    """Done, or asked to stop."""
    CRASHED = 1
    USAGE = 2
    """The command line asks for what there is not."""
    CANNOT_START = 3
    """Starting again would end the same way: bad configuration, port in use, spec refused."""
    PEER_UNREACHABLE = 4
    """The process on the other side does not answer."""
    BAD_DATA = 5
    """What was read is not what it should be."""


class CannotStart(RuntimeError):
    """The process cannot do its work until a person changes something; the message says what."""


@contextlib.contextmanager
def disk_is_usable(path: Path) -> Iterator[None]:
    """Translates what the system says against a file or folder of a start into `CannotStart`.

    Args:
        path: What is read and written in the block.

    Raises:
        CannotStart: It is full, read-only, somebody else's or not what it should be.
    """
    try:
        yield
    except OSError as error:
        raise CannotStart(
            f"{path} cannot be used: {error}. See that its disk has room and can be written to, "
            "and that it belongs to this user"
        ) from error


def interrupt(_number: int, _frame: object) -> None:
    """Ends the program in order when a signal comes, as Ctrl-C does; a handler for `signal`."""
    raise KeyboardInterrupt


class StopRequests:
    """How often this process was asked to stop.

    What comes within a second of a request is its echo and does not count: Linux sends the death
    signal of a parent again for each thread of it that inherited us, and a terminal's Ctrl-C comes
    from the terminal and from a supervisor that hands it on.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._last_s = -math.inf
        self._num = 0

    def heard(self) -> int:
        """Takes note of one signal; returns the number of requests so far, 1 or more."""
        now_s = self._clock_s()
        if now_s - self._last_s >= _ECHO_S:
            self._num += 1
            self._last_s = now_s
        return self._num


class Interrupted(BaseException):
    """Work that can be left at any moment is left, because it is time to end.

    No Exception, so that nothing on the way takes it for an error of that work.
    """


class StopFlag:
    """A wish to end that a signal handler may set at any moment, as it takes no lock."""

    def __init__(self) -> None:
        self.is_set = False
        """Whether to end."""
        self._interrupted_thread: int | None = None

    def set(self) -> None:
        """Says that it is time to end; to a thread inside `interrupting` itself by Interrupted."""
        self.is_set = True
        if self._interrupted_thread == threading.get_ident():
            self._interrupted_thread = None
            raise Interrupted

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Lets the signals break off what is done in the block, which may take long.

        Signals are handled in the main thread, and only that one is broken off. What the block
        makes may be lost: nothing that has to be stopped or closed.

        Raises:
            Interrupted: It is time to end, or was already.
        """
        self._interrupted_thread = threading.get_ident()
        try:
            if self.is_set:
                raise Interrupted
            yield
        finally:
            self._interrupted_thread = None

    def set_on_signals(self) -> None:
        """Takes SIGTERM and SIGINT for that wish from now on; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.set())


class StopSignals:
    """SIGTERM and SIGINT: the first asks for a clean stop, the second for a quick one."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._requests = StopRequests(clock_s)
        self._asked = threading.Event()
        self._hurried = threading.Event()

    def install(self) -> None:
        """Takes both signals; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: set_in_handler(self._next()))

    def ask(self) -> None:
        """Asks for a stop; the second time, for a quick one."""
        self._next().set()

    def _next(self) -> threading.Event:
        return self._asked if self._requests.heard() == 1 else self._hurried

    @property
    def is_asked(self) -> bool:
        """Whether to stop."""
        return self._asked.is_set()

    @property
    def is_hurried(self) -> bool:
        """Whether to stop without waiting for anything."""
        return self._hurried.is_set()

    def pause(self, timeout_s: float) -> None:
        """Waits, but no longer than until the next request."""
        if self._asked.is_set():
            self._hurried.wait(timeout_s)
        else:
            self._asked.wait(timeout_s)


def stop_on_signals(stop: threading.Event, clock_s: Callable[[], float] = time.monotonic) -> None:
    """Sets `stop` on SIGTERM and SIGINT; a second request ends the process at once.

    Must be called from the main thread.
    """
    requests = StopRequests(clock_s)

    def on_signal(number: int, _frame: object) -> None:
        if requests.heard() > 1:
            os._exit(128 + number)
        set_in_handler(stop)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def be_urgent(niceness: int) -> None:
    """Puts this process before others in the scheduler's eyes; threads made later follow.

    Args:
        niceness: As of nice(1). Where the system does not allow it, all is left as it is.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except PermissionError:
        logger.info("event=niceness_refused wanted=%d kept=%d", niceness, os.nice(0))


def set_in_handler(event: threading.Event) -> None:
    """Sets `event` from a signal handler.

    Done by another thread: the one that was interrupted may be in `event.wait`, holding its lock.
    """
    _thread.start_new_thread(event.set, ())


def end_with_parent(parent_pid: int) -> None:
    """Asks for SIGTERM when the process `parent_pid`, our parent, ends; however it ends.

    Linux delivers it through the kernel. Elsewhere a thread looks every half second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_watch_parent, args=(parent_pid,), daemon=True).start()
    if os.getppid() != parent_pid:  # it ended before we could ask
        os.kill(os.getpid(), signal.SIGTERM)


def _watch_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def software_version() -> str:
    """Returns the version of offworld that runs; empty when it runs without being installed."""
    try:
        return importlib.metadata.version("offworld")
    except importlib.metadata.PackageNotFoundError:
        return ""


def write_aside(path: Path, text: str) -> None:
    """Replaces a small file by rename, so that a reader sees the old or the new one, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def run_to_exit_code(run: Callable[[], None]) -> int:
    """Runs a process's work and returns its exit code; the broadest handler there is."""
    try:
        run()
    except CannotStart as error:
        logger.error("event=cannot_start reason=%s", error)
        return ExitCode.CANNOT_START
    except Exception:
        logger.exception("event=crashed")
        return ExitCode.CRASHED
    return ExitCode.DONE


@contextlib.contextmanager
def quiet_memory() -> Iterator[None]:
    """Keeps the garbage collector out of the way while a trial runs."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
