"""The guard of a real arm as the actor's supervisor has it: started first, never started again.

A guard that died may have left the arm on its way, and nobody watches it any more: that is latched
on disk like any other fault, and waits for a person.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from robot.fault_store import FaultStore
from robot.interfaces import RobotFault
from services.actor_folder import ActorFolder
from services.guard import FAULT_FILE, RUN_FILE, SOCKET_FILE, GuardRun
from services.kept_process import KeptProcess, describe_end
from services.process import CannotStart, ExitCode, disk_is_usable

logger = logging.getLogger(__name__)

STOP_S = 10.0
"""A guard that connects to its arm right now hears of its end only after that."""
_LOOK_S = 0.02
_TOO_EARLY = -signal.SIGTERM
"""How a guard ends that is asked to before it hears signals, and so before it has an arm."""


def command(run_file: Path) -> list[str]:
    """Returns the command line of the guard."""
    return [sys.executable, "-m", "services.guard", str(run_file)]


class KeptGuard:
    """One guard, from start to stop.

    Args:
        folder: The actor's, locked; the guard works in its `run`.
        limits: The cell's file.
        ip: Of the arm; None for the one in the file.

    Raises:
        CannotStart: The folder cannot be written to.
    """

    def __init__(self, folder: ActorFolder, limits: Path, ip: str | None) -> None:
        self._socket = folder.run / SOCKET_FILE
        # What a killed guard has left behind is no sign of this one.
        with disk_is_usable(self._socket):
            self._socket.unlink(missing_ok=True)
        self._faults = FaultStore(folder.run / FAULT_FILE)
        run = GuardRun(folder=folder.run, limits=limits, ip=ip, parent_pid=os.getpid())
        file = folder.run / RUN_FILE
        with disk_is_usable(file):
            run.write(file)
        self._process = KeptProcess(
            "guard",
            command(file),
            folder=folder.run,
            pass_fds=(folder.children_lock,),
        )

    @property
    def is_serving(self) -> bool:
        """Whether a loop may connect to it."""
        return self._socket.exists()

    def look(self) -> int | None:
        """Starts it the first time; returns the actor's exit code once it has ended."""
        code = self._process.keep()
        if code is None:
            return None
        logger.error("event=guard_ended how=%s", describe_end(code))
        if code == ExitCode.CANNOT_START:
            return code
        self._latch_end(code)
        return ExitCode.CRASHED

    def check(self) -> None:
        """Starts it the first time; CannotStart once it has ended."""
        if (code := self.look()) is not None:
            raise CannotStart(f"the guard of the arm ended, exit {code}: its log above says why")

    def wait_until_serving(self, timeout_s: float, should_stop: Callable[[], bool]) -> None:
        """Starts it, and waits until a loop may connect to it.

        Args:
            timeout_s: How long at most.
            should_stop: Whether to give up now.

        Raises:
            CannotStart: It ended, it was given up, or the time is over.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            self.check()
            if self.is_serving:
                return
            if should_stop():
                raise CannotStart("asked to stop before the guard served")
            if time.monotonic() > until_s:
                raise CannotStart(f"the guard does not serve after {timeout_s:g} s")
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Has it stop the arm and end, and waits for that: no hurry leaves an arm unstopped."""
        self._process.send(signal.SIGTERM)
        if not self._process.wait(STOP_S):
            logger.error("event=killed process=guard")
            self._process.kill()
            self._latch("the guard did not end when asked to, see to the arm")
        elif (code := self._process.last_code) not in (None, ExitCode.CANNOT_START, _TOO_EARLY):
            # It may have died long before it was asked, and whoever it served has only just seen.
            self._latch_end(code)

    def _latch_end(self, code: int) -> None:
        if code != ExitCode.DONE:
            self._latch(f"the guard ended with {describe_end(code)}, see to the arm")

    def _latch(self, text: str) -> None:
        if self._faults.load() is not None:
            return
        try:
            self._faults.save(RobotFault("guard_died", text), "watching over the arm")
        except OSError as error:
            logger.error("event=fault_not_saved file=%s reason=%s", self._faults.path, error)
