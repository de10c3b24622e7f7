"""A guard without its process, and a loop that drives it: simulated clock, no socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robot.clock import SimulatedClock
from robot.fault_store import FaultStore, StoredFault
from robot.guard import Guard
from robot.guard_limits import GuardLimits, LimitsRefused
from robot.guard_messages import (
    Ack,
    Answer,
    Close,
    Command,
    Hello,
    Hold,
    Message,
    Reset,
    Rest,
    Stop,
    Waiting,
)
from robot.guard_wire import pack, unpack
from robot.guarded_arm import GuardedArm
from robot.interfaces import Arm, RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits
from robot.xarm_config import XArmConfig
from tests.robot.recording_arm import Entry, RecordingArm

LIMITS = GuardLimits(
    box_low_m=(0.25, -0.15, 0.015),
    box_high_m=(0.55, 0.15, 0.315),
    crossing_height_m=None,
    xarm=XArmConfig(),
)
START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)
PERIOD_NS = 100_000_000
CYCLE_NS = 10_000_000


class MemoryFaults(FaultStore):
    """Keeps the fault in memory; fails to when told so."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere/fault.json"))
        self.stored: StoredFault | None = None
        self.is_full = False

    def load(self) -> StoredFault | None:
        return self.stored

    def save(self, fault: RobotFault, doing: str) -> None:
        if self.is_full:
            raise OSError(28, "no space left on device")
        self.stored = StoredFault(code=fault.code, message=fault.message, unix_s=0.0, doing=doing)

    def clear(self) -> None:
        self.stored = None


class GuardClock(SimulatedClock):
    """Time that lets the guard do its cycle on the way."""

    def __init__(self) -> None:
        super().__init__(start_ns=1_000_000_000)
        self.on_cycle: Any = lambda: None
        self.due_ns: Callable[[], int | None] = lambda: None

    def advance(self, duration_ns: int) -> None:
        self.sleep_until_ns(self.now_ns() + duration_ns)

    def sleep_until_ns(self, t_ns: int) -> None:
        while self.now_ns() < t_ns:
            next_ns, due_ns = self.now_ns() + CYCLE_NS, self.due_ns()
            if due_ns is not None and self.now_ns() < due_ns < next_ns:
                next_ns = due_ns
            super().sleep_until_ns(min(t_ns, next_ns))
            self.on_cycle()


class GuardRig:
    """A guard over a recording arm, and the loop's arm in front of it.

    Args:
        limits: Of the guard.
        faults: Of the guard; in memory unless given.
        clock: Time; one of its own unless given.
    """

    rounding_m = 0.0
    """What may become of a target on its way into the record."""

    def __init__(
        self,
        limits: GuardLimits = LIMITS,
        faults: FaultStore | None = None,
        clock: GuardClock | None = None,
    ) -> None:
        self.clock = clock or GuardClock()
        self.record: list[Entry] = []
        self.real = self.make_real()
        self.faults = faults or MemoryFaults()
        self.guard = Guard(self.real, limits, self.clock, self.faults)
        self.clock.on_cycle = self.cycle
        self.clock.due_ns = lambda: self.guard.due_ns
        self.holds: set[Entry] = set()
        """What the arm was told so that it holds."""
        self._halt = self.guard._steering.halt
        self.guard._steering.halt = self._note_halt
        self.replies: deque[bytes] = deque(maxlen=4)
        self.is_paused = False
        """The guard does not run."""

    def make_real(self) -> Arm:
        """Returns the arm behind the guard; what it is told goes into `record`."""
        return RecordingArm(self.clock, self.record.append)

    def _note_halt(self, place: tuple[float, float, float], **how: Any) -> None:
        num_before = len(self.record)
        self._halt(place, **how)
        self.holds.update(self.record[num_before:])

    def make_arm(self, limits: SafetyLimits | None = None) -> GuardedArm:
        return GuardedArm(
            lambda: self, self.clock, period_ns=PERIOD_NS, limits=limits or SafetyLimits()
        )

    def cycle(self) -> None:
        if not self.is_paused:
            self.guard.step()
            self.replies.append(pack(self.guard.report()))

    def commands(self) -> list[Entry]:
        return [entry for entry in self.record if entry.kind == "command"]

    # The link.
    def send(self, raw: bytes) -> None:
        self.take(unpack(raw))

    def receive(self) -> bytes | None:
        return self.replies.popleft() if self.replies else None

    def close(self) -> None: ...

    def take(self, message: Message) -> None:
        match message:
            case Hello():
                try:
                    self.guard.attach(message.period_ns, message.limits)
                except LimitsRefused as error:
                    self.replies.append(pack(Answer(is_ok=False, text=str(error))))
                else:
                    self.replies.append(pack(Answer(is_ok=True, text="drive")))
            case Reset():
                self.guard.reset(message.number, message.pose)
            case Command():
                self.guard.command(message.seq, message.target, message.t_ns)
            case Hold():
                self.guard.hold(message.t_ns)
            case Waiting():
                self.guard.wait(message.t_ns)
            case Rest():
                self.guard.rest()
            case Stop():
                self.guard.stop("the loop", is_kept=False, cause=message.cause)
            case Ack():
                self.guard.acknowledge()
            case Close():
                self.guard.detach(is_farewell=True)
            case _:
                raise AssertionError(message)
        self.replies.append(pack(self.guard.report()))


class Drive:
    """A loop at its start, ready to send targets."""

    def __init__(self, rig: GuardRig) -> None:
        self.rig = rig
        rig.guard.connect()
        self.arm = rig.make_arm()
        self.arm.connect()
        self.arm.reset(START)
        self.seq = 0
        rig.record.clear()

    def send(self, place, opening=0.6, *, seq=None, age_ns=0):
        self.seq = self.seq + 1 if seq is None else seq
        target = ToolTarget(position_m=place, gripper_opening=opening)
        t_ns = self.rig.clock.now_ns() - age_ns
        self.rig.take(Command(seq=self.seq, t_ns=t_ns, target=target))

    def tick(self, num_periods=1.0):
        self.rig.clock.advance(round(num_periods * PERIOD_NS))

    def code(self) -> str | None:
        fault = self.rig.guard.fault
        return None if fault is None else fault.code


def moved(x=0.0, y=0.0, z=0.0):
    at = START.position_m
    return (at[0] + x, at[1] + y, at[2] + z)


@pytest.fixture
def rig() -> GuardRig:
    return GuardRig()


@pytest.fixture
def drive(rig: GuardRig) -> Drive:
    return Drive(rig)
