"""The guard's process over a recording arm, and loops that drive it, for tests that kill them.

The record is a file of fixed-size rows that outlives the process: whatever happened to the guard,
it says what the arm was told, and how fast it went.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

from robot.clock import Clock, MonotonicClock
from robot.guard_limits import GuardLimits
from robot.guard_link import SocketLink
from robot.guarded_arm import GuardedArm
from robot.interfaces import StartPose, ToolTarget
from robot.safety import SafetyLimits
from services import guard
from services.process import end_with_parent
from tests.robot.recording_arm import Entry, Kind, RecordingArm
from tests.services.rig import ROOT, wait_until

PERIOD_NS = 50_000_000
START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)
KINDS: tuple[Kind, ...] = ("command", "stop", "state")
_ROW = struct.Struct("<qb7d")
RECORD_FILE = "record"
LIMITS = """
box_low_m = [0.25, -0.15, 0.015]
box_high_m = [0.55, 0.15, 0.315]
"""


class GuardProcess:
    """`python -m services.guard` with a recording arm in the place of the real one.

    Args:
        folder: Gets all its files.
        log: Open file that gets its log; a file of the folder unless given.
    """

    def __init__(self, folder: Path, *, log: int | None = None) -> None:
        self.folder = folder
        self.socket = folder / guard.SOCKET_FILE
        self.log = folder / "guard.log"
        limits = folder / "limits.toml"
        if not limits.exists():
            limits.write_text(LIMITS, encoding="utf-8")
            limits.chmod(0o644)
        run = guard.GuardRun(folder=folder, limits=limits, parent_pid=os.getpid())
        run.write(folder / "guard.toml")
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, "guard", str(folder)],
                cwd=ROOT,
                stderr=file if log is None else log,
                start_new_session=True,
            )
        self._others: list[subprocess.Popen[bytes]] = []

    def wait_until_there(self) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.said("event=guarding")

        wait_until(is_there)

    def said(self, text: str) -> bool:
        return text in self.log.read_text(encoding="utf-8")

    def drive(self) -> subprocess.Popen[bytes]:
        """Starts a loop and returns once it moves the arm."""
        before = len(self.record())
        loop = subprocess.Popen(
            [sys.executable, "-m", __name__, "loop", str(self.folder)],
            cwd=ROOT,
            start_new_session=True,
        )
        self._others.append(loop)

        def is_moving() -> bool:
            assert loop.poll() is None
            rows = self.record()[before:]
            num_commands = [e.kind for e in rows].count("command")
            return num_commands >= 8 and rows[-1].speed_m_s > 0.08

        wait_until(is_moving)
        return loop

    def record(self) -> list[Entry]:
        """Returns what the arm wrote down so far."""
        path = self.folder / RECORD_FILE
        raw = path.read_bytes() if path.exists() else b""
        rows = _ROW.iter_unpack(raw[: len(raw) // _ROW.size * _ROW.size])
        return [
            Entry(t, KINDS[kind], (a, b, c), (x, y, z), speed)
            for t, kind, a, b, c, x, y, z, speed in rows
        ]

    def end(self) -> None:
        for process in [self.process, *self._others]:
            if process.poll() is None:
                process.kill()
            process.wait()


def connect(folder: Path) -> GuardedArm:
    """Returns a loop's arm on the guard of a folder, connected."""
    arm = GuardedArm(
        lambda: SocketLink(folder / guard.SOCKET_FILE),
        MonotonicClock(),
        period_ns=PERIOD_NS,
        limits=SafetyLimits(),
    )
    arm.connect()
    return arm


def _run_guard(folder: Path) -> int:
    file = os.open(folder / RECORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(entry: Entry) -> None:
        row = (*entry.target, *entry.place, entry.speed_m_s)
        os.write(file, _ROW.pack(entry.t_ns, KINDS.index(entry.kind), *row))

    def make_arm(limits: GuardLimits, clock: Clock) -> RecordingArm:
        del limits
        return RecordingArm(clock, note, keep_states=True)

    guard.make_arm = make_arm
    return guard.main([str(folder / "guard.toml")])


def _run_loop(folder: Path) -> int:
    """Goes to and fro along y at 0.2 m/s, without an end."""
    end_with_parent(os.getppid())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    clock = MonotonicClock()
    arm = connect(folder)
    arm.reset(START)
    x, y, z = START.position_m
    step_m = 0.010
    next_ns = clock.now_ns()
    while True:
        arm.state()
        if abs(y + step_m) > 0.10:
            step_m = -step_m
        y += step_m
        arm.command(ToolTarget(position_m=(x, y, z), gripper_opening=START.gripper_opening))
        next_ns += PERIOD_NS
        clock.sleep_until_ns(next_ns)


if __name__ == "__main__":
    raise SystemExit({"guard": _run_guard, "loop": _run_loop}[sys.argv[1]](Path(sys.argv[2])))
