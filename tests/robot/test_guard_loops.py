"""A silent loop is held, one that is gone latches, and only one within the limits may drive."""

from __future__ import annotations

import dataclasses

import pytest

from robot.guard_limits import LimitsRefused
from robot.guard_messages import Phase, Reset, Rest
from robot.guard_motion import LEAD_NS
from robot.guarded_arm import GuardedArm
from robot.interfaces import RobotFault, ToolTarget
from robot.safety import SafetyLimits
from tests.robot import guard_rig
from tests.robot.guard_rig import LIMITS, PERIOD_NS, START, Drive, GuardRig, moved

rig, drive = guard_rig.rig, guard_rig.drive


def test_silence_of_two_periods_holds_and_a_fresh_target_goes_on(drive: Drive):
    for k in range(5):
        drive.send(moved(x=0.02 * (k + 1)))
        drive.tick()
    drive.tick(0.9)
    assert drive.rig.guard.phase is Phase.MOVING
    drive.tick(0.3)
    report = drive.rig.guard.report()
    assert (report.phase, report.num_holds) == (Phase.HELD, 1)
    drive.tick(3)
    rests = drive.rig.real.place
    drive.send(moved(x=0.11))
    assert drive.rig.guard.phase is Phase.MOVING
    drive.tick()
    assert drive.rig.real.place[0] > rests[0]
    assert drive.code() is None


def test_a_hold_in_motion_ends_the_path_where_the_arm_can_brake(rig: GuardRig):
    rig.real.speed_m_s = 0.10  # it lags: at two periods of silence it is still under way
    drive = Drive(rig)
    for k in range(4):
        drive.send(moved(x=0.024 * (k + 1)))
        drive.tick()
    drive.tick(1.2)
    assert rig.guard.phase is Phase.HELD
    last = rig.commands()[-1]
    speed_m_s = rig.real.speed_m_s
    braking_m = speed_m_s**2 / (2 * LIMITS.hold_acceleration_m_s2) + speed_m_s * LEAD_NS * 1e-9
    assert last.target[0] - last.place[0] == pytest.approx(braking_m, abs=1e-3)
    assert last.target[0] < moved(x=0.08)[0]
    drive.tick(3)
    assert rig.real.place[0] == pytest.approx(last.target[0], abs=1e-3)


def test_a_silent_loop_latches_after_a_second(drive: Drive):
    drive.send(moved(x=0.02))
    drive.tick(9.9)
    assert drive.rig.guard.phase is Phase.HELD
    drive.tick(0.3)
    assert drive.code() == "loop_gone"
    assert drive.rig.faults.stored is not None


def test_between_trials_nobody_has_to_say_anything(drive: Drive):
    drive.send(moved(x=0.02))
    drive.rig.take(Rest())
    drive.tick(300)
    assert drive.rig.guard.phase is Phase.READY
    drive.arm.reset(START)
    drive.tick(300)
    assert drive.code() is None


@pytest.mark.parametrize("phase", [Phase.MOVING, Phase.HELD, Phase.RESETTING])
def test_a_loop_that_vanishes_while_it_drives_latches(drive: Drive, phase: Phase):
    if phase is Phase.RESETTING:
        drive.rig.take(Reset(number=9, pose=dataclasses.replace(START, position_m=moved(y=0.1))))
    else:
        drive.send(moved(x=0.02))
        drive.tick(3 if phase is Phase.HELD else 1)
    assert drive.rig.guard.phase is phase
    drive.rig.guard.detach(is_farewell=False)
    assert drive.code() == "loop_gone"
    assert drive.rig.record[-1].kind == "stop"


def test_a_loop_that_vanishes_at_rest_or_says_farewell_is_no_fault(drive: Drive):
    drive.rig.guard.detach(is_farewell=False)
    assert (drive.rig.guard.phase, drive.code()) == (Phase.IDLE, None)
    again = drive.rig.make_arm()
    again.connect()
    again.reset(START)
    drive.seq = 0
    drive.send(moved(x=0.02))
    again.close()
    assert (drive.rig.guard.phase, drive.code()) == (Phase.IDLE, None)
    drive.tick(30)
    assert drive.code() is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"box_low_m": (0.24, -0.15, 0.015)}, "box_low_m x: the loop has 0.24, not 0.25"),
        ({"box_low_m": (0.25, -0.15, 0.0)}, "box_low_m z: the loop has 0, not 0.015"),
        ({"box_high_m": (0.55, 0.2, 0.315)}, "box_high_m y: the loop has 0.2, not 0.15"),
        ({"max_step_m": 0.06}, "max_step_m: the loop has 0.06, the guard allows 0.05"),
        ({"max_speed_m_s": 1.0}, "max_speed_m_s: the loop has 1, the guard allows 0.25"),
    ],
)
def test_a_loop_that_would_go_further_is_refused_by_field(rig: GuardRig, change, named: str):
    rig.guard.connect()
    wide = dataclasses.replace(SafetyLimits(), **change)
    with pytest.raises(RobotFault) as caught:
        rig.make_arm(wide).connect()
    assert caught.value.code == "guard_refused"
    assert caught.value.message.splitlines()[1:] == [named]
    rig.guard.attach(PERIOD_NS, SafetyLimits())


@pytest.mark.parametrize("period_ns", [0, -PERIOD_NS, 19_000_000, 201_000_000, 2**62])
def test_a_loop_of_another_rate_is_refused(rig: GuardRig, period_ns: int):
    with pytest.raises(LimitsRefused, match="period: the loop has"):
        rig.guard.attach(period_ns, SafetyLimits())


def test_a_narrower_loop_may_drive_and_a_second_one_may_not(rig: GuardRig):
    rig.guard.attach(PERIOD_NS, SafetyLimits(box_low_m=(0.3, -0.1, 0.1), max_speed_m_s=0.1))
    with pytest.raises(LimitsRefused, match="another loop"):
        rig.guard.attach(PERIOD_NS, SafetyLimits())


def test_a_guard_that_stands_still_is_noticed_by_the_loop(drive: Drive):
    drive.arm.state()
    drive.rig.is_paused = True
    drive.tick(2)
    drive.arm.state()
    drive.tick(1)
    with pytest.raises(RobotFault) as caught:
        drive.arm.state()
    assert caught.value.code == "guard_silent"
    drive.rig.is_paused = False
    drive.tick(1)
    assert isinstance(drive.arm, GuardedArm)
    with pytest.raises(RobotFault):
        drive.arm.command(ToolTarget(position_m=moved(), gripper_opening=0.6))
