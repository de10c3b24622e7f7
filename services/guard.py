"""The guard's process: the only one that may talk to the arm. No torch, no network, no trials.

`python -m services.guard GUARD.toml`, started before the loop. It holds the arm's connection, looks
a hundred times a second (`robot/guard.py`), and serves a socket on this machine only
(`services/guard_server.py`). Asked to end, or bereft of its parent, it stops the arm first. Killed,
it leaves the arm with its last target, which is bounded like all others: the arm gets there within
two periods and rests.

Lines of the log are written by a thread of their own, so that a reader that stalls does not stall
the guard, and the garbage collector rests while the arm moves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from learner.durable import FolderLock, StoreLocked
from robot.clock import Clock, MonotonicClock
from robot.fault_store import FaultStore
from robot.guard import Guard
from robot.guard_limits import GuardLimits
from robot.interfaces import Arm, RobotFault
from services.config import ConfigError, build_file
from services.config_text import to_toml
from services.guard_server import GuardServer
from services.logs import configure_logging, logging_in_background
from services.process import (
    CannotStart,
    StopFlag,
    be_urgent,
    end_with_parent,
    run_to_exit_code,
    write_aside,
)

logger = logging.getLogger(__name__)

SOCKET_FILE = "guard.sock"
FAULT_FILE = "fault.json"
LOCK_FILE = "guard.lock"
RUN_FILE = "guard.toml"
_CYCLE_NS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class GuardRun:
    """What the supervisor hands to the guard."""

    folder: Path
    """Where socket, lock and latched fault are: SPOOL/run."""
    limits: Path
    """The file with this cell's `GuardLimits`."""
    ip: str | None = None
    """Address of the arm; none for the one in `limits`."""
    parent_pid: int
    """The supervisor; a guard that finds it gone ends."""
    niceness: int = -15
    """Scheduling priority, as of nice(1); left as it is where the system does not allow that."""

    @classmethod
    def read(cls, path: Path) -> GuardRun:
        """Reads `write`'s file; ConfigError if it is not that."""
        return build_file(cls, path)

    def write(self, path: Path) -> None:
        """Writes the file, replaced by rename."""
        write_aside(path, to_toml(self))

    def read_limits(self) -> GuardLimits:
        """Reads the cell's limits, with the arm's address; see the function of that name."""
        return read_limits(self.limits, self.ip)


def read_limits(path: Path, ip: str | None = None) -> GuardLimits:
    """Reads the limits of a cell.

    Args:
        path: TOML; nobody but its owner and group may write to it.
        ip: Address of the arm, in the place of the one in the file; None for that one.

    Raises:
        ConfigError: Anybody may write to it, it does not say all that is needed, says what is not
            known, or what cannot be; the message names the key.
    """
    limits = build_file(GuardLimits, path)
    if path.stat().st_mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: anybody may write to it; `chmod o-w {path}` first")
    if ip is None:
        return limits
    if limits.xarm is None:
        raise ConfigError(f"{path}: `ip` is an xArm's, and there is no [xarm] in here")
    try:
        return dataclasses.replace(limits, xarm=dataclasses.replace(limits.xarm, ip=ip))
    except ValueError as error:
        raise ConfigError(f"of the actor: {error}") from error


def run_guard(run: GuardRun, stop: StopFlag, make_arm: Callable[[GuardLimits, Clock], Arm]) -> None:
    """Guards an arm until asked to stop; the arm is stopped and let go of in any case.

    Args:
        run: What the supervisor asked for.
        stop: Ends the guard; set before there is an arm, none is touched.
        make_arm: Makes the arm, not connected.

    Raises:
        CannotStart: The limits cannot be used, another guard works in the folder, or the arm cannot
            be made ready.
    """
    clock = MonotonicClock()
    be_urgent(run.niceness)
    with contextlib.ExitStack() as ending:
        try:
            limits = run.read_limits()
            lock = FolderLock(run.folder / LOCK_FILE, f"the arm of {run.folder}")
        except (ConfigError, StoreLocked, OSError) as error:
            raise CannotStart(str(error)) from error
        ending.callback(lock.release)
        if stop.is_set:
            return
        faults = FaultStore(run.folder / FAULT_FILE)
        guard = Guard(make_arm(limits, clock), limits, clock, faults)
        ending.callback(guard.shut_down)
        try:
            guard.connect()
        except RobotFault as fault:
            raise CannotStart(f"the arm cannot be made ready: {fault}") from fault
        server = GuardServer(guard, run.folder / SOCKET_FILE, clock)
        ending.callback(server.close)
        logger.info("event=guarding folder=%s phase=%s", run.folder, guard.phase.name.lower())
        ending.callback(gc.enable)
        _serve(guard, server, clock, stop)


def _serve(guard: Guard, server: GuardServer, clock: Clock, stop: StopFlag) -> None:
    gc.collect()
    gc.freeze()
    next_ns = clock.now_ns()
    while not stop.is_set:
        next_ns = max(next_ns + _CYCLE_NS, clock.now_ns())
        due_ns = guard.due_ns
        if due_ns is not None and due_ns < next_ns:
            server.turn(due_ns)  # a hold is not put off to the end of a cycle
        server.turn(next_ns)
        if guard.is_moving == gc.isenabled():
            (gc.disable if guard.is_moving else gc.enable)()


def make_arm(limits: GuardLimits, clock: Clock) -> Arm:
    """Returns the real arm, not connected; CannotStart if it is not one that can be driven here."""
    if limits.xarm is None:
        raise CannotStart("the limits file has no [xarm]: nothing says which arm is to be driven")
    try:
        from robot.xarm import XArm
    except ImportError as error:
        raise CannotStart(f"the arm's driver is not installed: {error}") from error
    return XArm(limits.xarm, clock)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the guard that a run file describes; returns the exit code."""
    stop = StopFlag()
    stop.set_on_signals()
    (path,) = sys.argv[1:] if argv is None else argv
    with logging_in_background(configure_logging("guard")):
        run = GuardRun.read(Path(path))
        end_with_parent(run.parent_pid)
        return run_to_exit_code(lambda: run_guard(run, stop, make_arm))


if __name__ == "__main__":
    raise SystemExit(main())
