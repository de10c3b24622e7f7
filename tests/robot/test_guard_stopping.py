"""A stop that the arm does not confirm is told of, latched all the same, and sent again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from robot.fault_store import FaultStore
from robot.guard_messages import Phase
from robot.interfaces import NOT_CONFIRMED, ConfirmingArm, RobotFault
from tests.robot.guard_rig import CYCLE_NS, Drive, GuardRig, MemoryFaults, moved
from tests.robot.recording_arm import RecordingArm, TellingArm

S = 1_000_000_000


class TellingRig(GuardRig):
    """A guard over an arm that says whether it stopped."""

    real: TellingArm

    def make_real(self) -> TellingArm:
        return TellingArm(self.clock, self.record.append)

    def stops_ns(self) -> list[int]:
        """Returns when the arm was told to stop."""
        return [entry.t_ns for entry in self.record if entry.kind == "stop"]


@pytest.fixture
def rig() -> TellingRig:
    made = TellingRig()
    made.guard.connect()
    made.record.clear()
    return made


def test_only_an_arm_that_says_whether_it_stopped_is_asked(rig: TellingRig):
    assert isinstance(rig.real, ConfirmingArm)
    plain = GuardRig()
    plain.guard.connect()
    assert isinstance(plain.real, RecordingArm)
    assert not isinstance(plain.real, ConfirmingArm)
    for each in (rig, plain):
        assert each.guard.stop("a person", is_kept=True) is True
        assert each.guard.fault is not None
        assert each.guard.fault.message == "motion was stopped by a person"


def test_a_stop_that_is_not_confirmed_says_so_and_so_does_its_fault(rig: TellingRig):
    rig.real.is_deaf = True
    assert rig.guard.stop("a person", is_kept=True) is False
    told = f"motion was stopped by a person; {NOT_CONFIRMED}"
    assert rig.guard.fault is not None
    assert (rig.guard.fault.code, rig.guard.fault.message) == ("stopped", told)
    stored = rig.faults.load()
    assert stored is not None
    assert stored.message == told


def test_a_stop_is_sent_again_each_second_until_it_is_confirmed(rig: TellingRig):
    rig.real.is_deaf = True
    rig.guard.stop("a person", is_kept=True)
    began_ns = rig.clock.now_ns()
    rig.clock.advance(S - CYCLE_NS)
    assert rig.stops_ns() == [began_ns]
    rig.clock.advance(2 * S)
    rig.real.is_deaf = False
    assert rig.stops_ns() == [began_ns, began_ns + S, began_ns + 2 * S]
    rig.clock.advance(60 * S)
    assert [t_ns - began_ns for t_ns in rig.stops_ns()] == [0, S, 2 * S, 3 * S]
    assert rig.guard.phase is Phase.LATCHED


def test_a_stop_of_the_guard_s_own_is_sent_again_too(rig: TellingRig):
    drive = Drive(rig)
    rig.real.is_deaf = True
    drive.send((math.nan, 0.0, 0.1))
    assert drive.code() == "target_not_finite"
    rig.clock.advance(3 * S)
    assert len(rig.stops_ns()) == 4


def test_whoever_asks_again_hears_how_the_stop_is_now(rig: TellingRig):
    rig.real.is_deaf = True
    assert rig.guard.stop("a person", is_kept=True) is False
    assert rig.guard.stop("a person", is_kept=True) is False
    rig.real.is_deaf = False
    assert rig.guard.stop("a person", is_kept=True) is True


@pytest.mark.parametrize(
    "error",
    [RobotFault("connection_lost", "gone"), OSError("no socket"), IndexError(), ValueError("what")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_stop_raises_the_fault_is_latched_and_kept(tmp_path: Path, error: Exception):
    faults = FaultStore(tmp_path / "fault.json")
    rig = TellingRig(faults=faults)
    drive = Drive(rig)
    drive.send(moved(x=0.01))
    rig.real.error = error
    drive.send((1e38, 0.0, 0.12))
    assert drive.code() == "target_outside_box"
    assert rig.guard.phase is Phase.LATCHED
    stored = faults.load()
    assert stored is not None
    assert (stored.code, stored.doing) == ("target_outside_box", "moving")
    assert stored.message.endswith(NOT_CONFIRMED)
    rig.clock.advance(round(2.5 * S))
    rig.real.error = None
    assert len(rig.stops_ns()) == 3
    rig.clock.advance(10 * S)
    assert len(rig.stops_ns()) == 4, "it is told until it says that it stopped"


def test_a_guard_that_is_not_connected_cannot_confirm_a_stop():
    faults = MemoryFaults()
    faults.save(RobotFault("collision", "C31"), "moving")
    rig = TellingRig(faults=faults)
    rig.guard.connect()
    assert rig.guard.stop("a person", is_kept=True) is False
    rig.clock.advance(3 * S)
    assert rig.record == [], "there is nobody to be told"
    assert rig.guard.fault is not None
    assert str(rig.guard.fault) == "collision: C31"


@pytest.mark.parametrize("is_deaf", [True, False])
def test_an_end_in_motion_is_latched_only_if_the_arm_does_not_confirm_its_stop(is_deaf: bool):
    rig = TellingRig()
    drive = Drive(rig)
    drive.send(moved(y=0.01))
    drive.tick()
    assert rig.guard.phase is Phase.MOVING
    rig.real.is_deaf = is_deaf
    rig.guard.shut_down()
    stored = rig.faults.load()
    assert (stored is not None and stored.code == "stop_not_confirmed") is is_deaf
    assert len(rig.stops_ns()) >= 1
