"""The guard, cycle by cycle: what it lets through, when it holds, what latches, what unlatches."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robot.guard import AckRefused, Guard
from robot.guard_limits import GuardLimits, LimitsRefused
from robot.guard_messages import Ack, Command, Phase, Reset, Rest, Stop
from robot.guard_motion import LEAD_NS
from robot.guarded_arm import GuardedArm
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits
from tests.robot.guard_rig import CYCLE_NS, LIMITS, PERIOD_NS, GuardRig, MemoryFaults

START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)


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


@pytest.fixture
def rig() -> GuardRig:
    return GuardRig()


@pytest.fixture
def drive(rig: GuardRig) -> Drive:
    return Drive(rig)


def moved(x=0.0, y=0.0, z=0.0):
    at = START.position_m
    return (at[0] + x, at[1] + y, at[2] + z)


def test_a_target_within_limits_is_sent_once_and_reached(drive: Drive):
    drive.send(moved(x=0.01))
    assert [e.target for e in drive.rig.commands()] == [moved(x=0.01)]
    assert drive.rig.guard.phase is Phase.MOVING
    drive.tick(1.5)
    assert math.dist(drive.rig.real.place, moved(x=0.01)) < 1e-4
    assert len(drive.rig.commands()) == 1


@pytest.mark.parametrize(
    ("place", "opening", "code"),
    [
        ((math.nan, 0.0, 0.12), 0.6, "target_not_finite"),
        ((0.40, math.inf, 0.12), 0.6, "target_not_finite"),
        ((0.40, 0.0, -math.inf), 0.6, "target_not_finite"),
        ((0.40, 0.0, 0.12), math.nan, "target_not_finite"),
        ((1e38, 0.0, 0.12), 0.6, "target_outside_box"),
        ((0.40, 0.0, 0.014), 0.6, "target_outside_box"),
        ((0.2499, 0.0, 0.12), 0.6, "target_outside_box"),
        ((0.40, 0.0, 0.12), 1.01, "target_outside_box"),
        ((0.40, 0.0, 0.12), -0.01, "target_outside_box"),
        ((0.40, 0.0, 0.1701), 0.6, "step_too_long"),
        ((0.40, 0.051, 0.12), 0.6, "step_too_long"),
    ],
)
def test_a_target_that_breaks_a_limit_is_never_sent_and_latches(drive, place, opening, code):
    drive.send(moved(x=0.005))
    drive.rig.record.clear()
    drive.send(place, opening)
    assert [e.kind for e in drive.rig.record] == ["stop"]
    assert drive.code() == code
    assert drive.rig.guard.phase is Phase.LATCHED
    stored = drive.rig.faults.stored
    assert (stored.code, stored.doing) == (code, "moving")
    drive.tick(30)
    assert [e.kind for e in drive.rig.record] == ["stop"]


def test_rounding_at_the_border_is_cut_off_and_no_fault(drive: Drive):
    place = list(START.position_m)
    while place[1] < 0.15:
        place[1] = min(place[1] + 0.02, 0.15 + 5e-7)
        drive.send(tuple(place), 1.0 + 5e-7)
        drive.tick()
    drive.send(tuple(place), 1.0 + 5e-7)
    drive.tick()
    assert drive.code() is None
    assert max(e.target[1] for e in drive.rig.commands()) == 0.15


def test_targets_that_come_too_fast_latch_before_the_arm_does_anything_fast(drive: Drive):
    for k in range(200):
        y = 0.05 * (1 if k % 2 else -1) / 2
        drive.send(moved(y=y))
        if drive.code():
            break
        drive.rig.clock.advance(CYCLE_NS)
    assert drive.code() == "too_fast"
    times = [e.t_ns for e in drive.rig.commands()]
    assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= PERIOD_NS // 2


def test_old_and_repeated_targets_are_ignored_and_counted(drive: Drive):
    drive.send(moved(x=0.01))
    drive.send(moved(x=0.02), seq=1)
    drive.send(moved(x=0.02), seq=0)
    drive.send((math.nan, 0, 0), seq=1)
    assert drive.rig.guard.report().num_ignored == 3
    assert drive.rig.guard.report().seq == 1
    assert drive.code() is None
    drive.tick(1)
    assert [e.target for e in drive.rig.commands()] == [moved(x=0.01)]


@pytest.mark.parametrize("age_ns", [2 * PERIOD_NS + 1, 10**18, -20_000_000])
def test_a_target_sent_long_ago_or_not_yet_is_no_sign_of_life(drive: Drive, age_ns: int):
    for _ in range(8):
        drive.send(moved(x=0.01), age_ns=age_ns)
        drive.tick()
    assert drive.rig.commands() == []
    assert drive.rig.guard.phase is Phase.READY
    assert drive.rig.guard.report().num_ignored == 8


def test_targets_that_piled_up_while_the_guard_stood_still_do_not_latch(drive: Drive):
    drive.send(moved(x=0.0))
    ages = [0.30, 0.25, 0.15, 0.05]
    drive.rig.clock.advance(PERIOD_NS)
    for k, age in enumerate(ages):
        drive.send(moved(x=0.02 * (k + 1)), age_ns=round(age * 1e9))
    assert drive.code() is None
    drive.tick(0.5)
    drive.send(moved(x=0.08))
    drive.tick(1.9)
    assert drive.rig.commands()[0].target[0] <= START.position_m[0] + 0.025
    assert drive.code() is None


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


def test_targets_count_only_after_a_reset_of_the_loop_that_drives(rig: GuardRig):
    rig.guard.connect()
    target = ToolTarget(position_m=START.position_m, gripper_opening=0.6)
    rig.take(Command(seq=1, t_ns=rig.clock.now_ns(), target=target))
    rig.take(Reset(number=1, pose=START))
    arm = rig.make_arm()
    arm.connect()
    arm.command(target)
    assert rig.guard.report().num_ignored == 3
    rig.take(Reset(number=1, pose=dataclasses.replace(START, position_m=moved(y=0.1))))
    arm.command(target)
    assert rig.guard.report().num_ignored == 4
    assert rig.guard.phase is Phase.RESETTING


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


@pytest.mark.parametrize(
    ("pose", "code"),
    [
        ((0.40, 0.0, 0.0), "start_outside_box"),
        ((math.nan, 0.0, 0.1), "target_not_finite"),
        ((math.inf, 0.0, 0.1), "target_not_finite"),
    ],
)
def test_a_start_that_cannot_be_latches(drive: Drive, pose, code: str):
    with pytest.raises(RobotFault) as caught:
        drive.arm.reset(StartPose(position_m=pose))
    assert caught.value.code == code
    assert drive.rig.commands() == []


def test_a_reset_may_begin_outside_the_box_and_leads_straight_in(rig: GuardRig):
    rig.real.place = (0.206, 0.0, 0.1205)  # where the arm stands when all its joints are at zero
    drive = Drive(GuardRig())
    rig.guard.connect()
    arm = rig.make_arm()
    arm.connect()
    arm.reset(START)
    assert rig.guard.phase is Phase.READY
    xs = [e.target[0] for e in rig.commands()]
    assert xs == sorted(xs)
    assert math.dist(rig.real.place, START.position_m) < 1.5e-3
    rig.real.place = (0.25 - LIMITS.reset_reach_m - 0.01, 0.0, 0.12)
    with pytest.raises(RobotFault) as caught:
        arm.reset(START)
    assert caught.value.code == "too_far_to_reset"
    assert drive.code() is None


def test_a_reset_crosses_the_table_at_its_height():
    rig = GuardRig(dataclasses.replace(LIMITS, crossing_height_m=0.25))
    rig.real.place = (0.30, -0.10, 0.02)
    rig.guard.connect()
    arm = rig.make_arm()
    arm.connect()
    arm.reset(dataclasses.replace(START, position_m=(0.50, 0.10, 0.03)))
    crossed = [e.target for e in rig.commands() if 0.305 < e.target[0] < 0.495]
    assert crossed
    assert all(z == pytest.approx(0.25, abs=1e-9) for _, _, z in crossed)
    assert math.dist(rig.real.place, (0.50, 0.10, 0.03)) < 1.5e-3


@pytest.mark.parametrize("speed_m_s", [0.05, 0.15])
def test_a_reset_is_as_slow_as_its_limit_and_the_trial_after_it_is_not(speed_m_s: float):
    rig = GuardRig(dataclasses.replace(LIMITS, reset_speed_m_s=speed_m_s))
    rig.real.place = (0.30, -0.10, 0.12)
    rig.guard.connect()
    arm = rig.make_arm()
    arm.connect()
    arm.reset(START)
    sent = rig.commands()
    ways = [math.dist(b.target, a.target) for a, b in zip(sent, sent[1:], strict=False)]
    assert max(ways) == pytest.approx(speed_m_s * PERIOD_NS * 1e-9)
    rig.record.clear()
    for k in range(4):
        arm.command(ToolTarget(position_m=moved(x=0.025 * (k + 1)), gripper_opening=0.6))
        rig.clock.advance(PERIOD_NS)
    sent = [START.position_m, *(entry.target for entry in rig.commands())]
    ways = [math.dist(b, a) for a, b in zip(sent, sent[1:], strict=False)]
    assert max(ways) > 0.9 * LIMITS.max_speed_m_s * PERIOD_NS * 1e-9


def test_a_reset_crosses_high_unless_the_limits_say_otherwise():
    limits = GuardLimits(box_low_m=LIMITS.box_low_m, box_high_m=LIMITS.box_high_m)
    rig = GuardRig(limits)
    rig.real.place = (0.30, -0.10, 0.02)
    rig.guard.connect()
    arm = rig.make_arm()
    arm.connect()
    arm.reset(dataclasses.replace(START, position_m=(0.50, 0.10, 0.03)))
    crossed = [e.target[2] for e in rig.commands() if 0.305 < e.target[0] < 0.495]
    assert crossed == pytest.approx([0.25] * len(crossed))


def test_a_tool_that_does_not_point_down_at_the_start_is_a_fault(rig: GuardRig):
    rig.guard.connect()
    rig.real.rotation_rad = (0.0, 0.0, 0.0)
    arm = rig.make_arm()
    arm.connect()
    with pytest.raises(RobotFault, match="3.142 rad off straight down"):
        arm.reset(START)
    arm.close()
    rig.take(Ack())
    rig.real.rotation_rad = (-math.pi, 0.0, 2.0)
    again = rig.make_arm()
    again.connect()
    again.reset(START)


@pytest.mark.parametrize("rotation_rad", [(math.pi - 0.12, 0.0, 0.0), (math.pi, 0.12, 1.0)])
def test_a_tilted_tool_is_not_led_anywhere(rig: GuardRig, rotation_rad):
    rig.guard.connect()
    rig.real.rotation_rad = rotation_rad
    place = rig.real.place
    arm = rig.make_arm()
    arm.connect()
    with pytest.raises(RobotFault) as caught:
        arm.reset(dataclasses.replace(START, position_m=moved(y=0.1)))
    assert caught.value.code == "tilted"
    assert rig.faults.stored is not None
    assert rig.faults.stored.code == "tilted"
    rig.clock.advance(30 * PERIOD_NS)
    assert [entry.kind for entry in rig.record] == ["stop"]
    assert rig.real.place == place


def test_an_arm_that_does_not_arrive_is_a_fault(rig: GuardRig):
    rig.guard.connect()
    rig.real.speed_m_s = 0.0
    arm = rig.make_arm()
    arm.connect()
    with pytest.raises(RobotFault) as caught:
        arm.reset(dataclasses.replace(START, position_m=moved(x=0.05)))
    assert caught.value.code == "reset_timeout"


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
