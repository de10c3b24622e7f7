"""What stops the arm is latched, and only a person unlatches it, once its cause is gone."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robot.guard import AckRefused, Guard
from robot.guard_messages import Ack, Phase, Reset, Stop
from robot.interfaces import RobotFault, ToolTarget
from tests.robot import guard_rig
from tests.robot.guard_rig import LIMITS, PERIOD_NS, START, Drive, GuardRig, MemoryFaults, moved

rig, drive = guard_rig.rig, guard_rig.drive


def test_a_latched_fault_survives_the_process_and_only_a_person_clears_it(drive: Drive):
    drive.send(moved(x=0.02))
    drive.tick(12)
    rig, faults = drive.rig, drive.rig.faults
    rig.guard.shut_down()
    assert not rig.real.is_connected
    later = GuardRig(faults=faults)
    later.guard.connect()
    assert later.guard.phase is Phase.LATCHED
    assert not later.real.is_connected
    arm = later.make_arm()
    arm.connect()
    assert arm.fault is not None
    assert arm.fault.code == "loop_gone"
    for refused in (lambda: arm.reset(START), arm.state, arm.clear_fault):
        with pytest.raises(RobotFault):
            refused()
    later.clock.advance(10**9)
    assert later.guard.phase is Phase.LATCHED
    later.take(Ack())
    assert later.real.is_connected
    assert faults.stored is None
    assert arm.fault is None
    arm.reset(START)
    arm.command(ToolTarget(position_m=moved(x=0.01), gripper_opening=0.6))
    assert later.guard.phase is Phase.MOVING
    assert Guard(later.real, LIMITS, later.clock, faults).fault is None


def test_an_ack_is_refused_while_the_cause_is_there(drive: Drive):
    drive.send(moved(x=0.02))
    drive.rig.real.cause = RobotFault("emergency_stop", "the button is pressed")
    drive.tick(0.2)
    assert drive.code() == "emergency_stop"
    with pytest.raises(AckRefused, match="button is pressed"):
        drive.rig.guard.acknowledge()
    assert drive.code() == "emergency_stop"
    assert drive.rig.faults.stored is not None
    drive.rig.real.cause = None
    cleared = drive.rig.guard.acknowledge()
    assert cleared is not None
    assert cleared.code == "emergency_stop"
    assert drive.rig.guard.phase is Phase.IDLE
    assert drive.rig.guard.acknowledge() is None
    assert drive.rig.real.num_clears == 1


def test_an_error_of_the_controller_from_before_is_latched_and_a_person_can_clear_it(rig: GuardRig):
    rig.real.cause = RobotFault("controller_c1", "C1: the emergency stop was pressed")
    rig.guard.connect()
    assert rig.guard.phase is Phase.LATCHED
    assert rig.faults.stored is not None
    assert rig.faults.stored.code == "controller_c1"
    with pytest.raises(AckRefused, match="emergency stop"):
        rig.guard.acknowledge()
    rig.real.cause = None
    assert rig.guard.acknowledge() is not None
    assert (rig.faults.stored, rig.guard.phase) == (None, Phase.IDLE)
    Drive(rig).send(moved(x=0.01))
    assert rig.guard.phase is Phase.MOVING


@pytest.mark.parametrize("code", ["not_connected", "firmware_too_old", "outside_fence"])
def test_what_no_ack_clears_is_not_latched_for_that(rig: GuardRig, code: str):
    rig.real.cause = RobotFault(code, "no")
    with pytest.raises(RobotFault, match=code):
        rig.guard.connect()
    assert (rig.guard.phase, rig.faults.stored) == (Phase.IDLE, None)


def test_an_ack_is_refused_while_the_disk_does_not_forget(drive: Drive, monkeypatch):
    drive.rig.guard.stop("a person", is_kept=True)

    def fail() -> None:
        raise OSError(30, "read-only file system")

    monkeypatch.setattr(drive.rig.faults, "clear", fail)
    with pytest.raises(AckRefused, match="read-only"):
        drive.rig.guard.acknowledge()
    assert drive.rig.guard.phase is Phase.LATCHED


def test_a_fault_that_finds_no_room_on_disk_is_held_and_written_later(drive: Drive):
    faults = drive.rig.faults
    assert isinstance(faults, MemoryFaults)
    faults.is_full = True
    drive.rig.guard.stop("a person", is_kept=True)
    drive.tick(25)
    assert drive.code() == "stopped"
    assert faults.stored is None
    faults.is_full = False
    drive.tick(11)
    assert faults.stored is not None
    assert faults.stored.code == "stopped"


def freeze(rig: GuardRig) -> None:
    rig.real.is_frozen = True


def shift(**by: float):
    def act(rig: GuardRig) -> None:
        rig.real.shift = (by.get("x", 0.0), by.get("y", 0.0), by.get("z", 0.0))

    return act


def tilt(rig: GuardRig) -> None:
    rig.real.rotation_rad = (math.pi - 0.08, 0.08, 1.0)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (tilt, "tilted"),
        (freeze, "arm_silent"),
        (shift(x=math.nan), "state_not_finite"),
        (shift(z=-0.14), "outside_box"),
        (shift(y=0.1501, x=-0.07), "not_following"),
    ],
)
def test_an_arm_that_is_not_well_is_stopped(drive: Drive, trouble, code: str):
    for k in range(6):
        drive.send(moved(y=0.01 * k))
        if k == 2:
            trouble(drive.rig)
        drive.tick()
    assert drive.code() == code
    assert drive.rig.record[-1].kind == "stop"


def test_a_latched_arm_is_stopped_once_and_looked_at_on(drive: Drive):
    drive.send(moved(x=0.02))
    drive.rig.take(Stop())
    before = drive.rig.guard.report()
    drive.tick(10)
    assert [e.kind for e in drive.rig.record] == ["command", "stop"]
    after = drive.rig.guard.report()
    assert before.state is not None
    assert after.state is not None
    assert after.state.t_ns - before.state.t_ns >= 9 * PERIOD_NS


def test_a_stop_is_heard_on_the_way_to_the_start(drive: Drive):
    pose = dataclasses.replace(START, position_m=moved(y=0.14))
    drive.rig.take(Reset(number=7, pose=pose))
    drive.tick(3)
    drive.rig.guard.stop("a person", is_kept=True)
    drive.tick(10)
    assert drive.rig.real.place[1] < 0.12
    assert drive.rig.faults.stored is not None
    assert drive.rig.faults.stored.doing == "resetting"


def test_the_stop_of_a_loop_that_ends_at_rest_does_not_outlive_the_guard(drive: Drive):
    drive.arm.stop()
    drive.tick(1)
    assert drive.code() == "stopped"
    assert drive.rig.faults.stored is None
    drive.rig.guard.stop("a person", is_kept=True)
    assert drive.rig.faults.stored is not None
    assert "a person" in drive.rig.faults.stored.message


def test_the_stop_of_a_loop_in_motion_does(drive: Drive):
    drive.send(moved(x=0.02))
    drive.arm.stop()
    assert drive.rig.faults.stored is not None
    assert drive.rig.faults.stored.doing == "moving"


def test_the_first_fault_stays_the_cause(drive: Drive):
    drive.send((math.nan, 0.0, 0.1))
    drive.rig.guard.stop("a person", is_kept=True)
    drive.rig.guard.detach(is_farewell=False)
    assert drive.code() == "target_not_finite"
