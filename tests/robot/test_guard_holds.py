"""How soon a held arm rests, and that nothing holds an arm whose loop is merely a little late."""

from __future__ import annotations

import math

import pytest

from robot.guard_messages import Command, Hello, Hold, Phase, Reset, Waiting
from robot.interfaces import StartPose, ToolTarget
from robot.safety import SafetyLimits
from tests.robot.guard_rig import LIMITS, GuardRig

MS = 1_000_000
START = StartPose(position_m=(0.30, 0.0, 0.12), gripper_opening=0.6)
FAR = StartPose(position_m=(0.50, 0.10, 0.05), gripper_opening=0.6)
PERIODS = pytest.mark.parametrize("period_ns", [100 * MS, 50 * MS], ids=["10 Hz", "20 Hz"])


class Loop:
    """A loop of any rate that drives straight on, as fast as it may."""

    def __init__(self, period_ns: int) -> None:
        self.rig, self.period_ns = GuardRig(), period_ns
        self.rig.guard.connect()
        self.rig.take(Hello(period_ns=period_ns, limits=SafetyLimits()))
        self.x, self.seq = START.position_m[0], 0

    def begin(self) -> None:
        self.rig.take(Reset(number=1, pose=START))
        while self.rig.guard.phase is Phase.RESETTING:
            self.wait(1)

    def wait(self, num_periods: int) -> None:
        for _ in range(2 * num_periods):
            self.rig.take(Waiting(t_ns=self.rig.clock.now_ns()))
            self.rig.clock.advance(self.period_ns // 2)

    def send(self) -> None:
        self.seq += 1
        self.x += LIMITS.max_speed_m_s * self.period_ns * 1e-9
        target = ToolTarget(position_m=(self.x, 0.0, 0.12), gripper_opening=0.6)
        self.rig.take(Command(seq=self.seq, t_ns=self.rig.clock.now_ns(), target=target))

    def drive(self, num_periods: int, late_ns: int = 0) -> None:
        """Sends a target a period, every second one late; the last one right now."""
        for k in range(num_periods):
            self.send()
            self.rig.clock.advance(self.period_ns + (late_ns if k % 2 else -late_ns))
        self.send()

    def rests_after_ns(self) -> int:
        """Waits until the arm rests for good, a second at most; returns how long that took."""
        since_ns, moving_ns = self.rig.clock.now_ns(), 0
        place = self.rig.real.place
        for _ in range(500):
            self.rig.clock.advance(2 * MS)
            if math.dist(self.rig.real.place, place) > 1e-6:
                moving_ns = self.rig.clock.now_ns() - since_ns
            place = self.rig.real.place
        return moving_ns


@PERIODS
@pytest.mark.parametrize("late_share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("num_periods", [1, 2, 6, 9])
def test_an_arm_whose_loop_stops_in_full_motion_rests_within_two_periods_and_50_ms(
    period_ns: int, late_share: float, num_periods: int
):
    loop = Loop(period_ns)
    loop.begin()
    loop.drive(num_periods, round(late_share * period_ns))
    assert loop.rests_after_ns() <= 2 * period_ns + 50 * MS


@PERIODS
@pytest.mark.parametrize("num_periods", range(3, 9))
def test_so_does_one_on_the_way_to_a_start(period_ns: int, num_periods: int):
    loop = Loop(period_ns)
    loop.rig.take(Reset(number=1, pose=FAR))
    loop.wait(num_periods)
    assert loop.rests_after_ns() <= 2 * period_ns + 50 * MS
    assert loop.rig.guard.report().num_holds == 1


@PERIODS
def test_a_loop_that_is_a_period_late_once_is_not_held(period_ns: int):
    loop = Loop(period_ns)
    loop.begin()
    for _ in range(3):
        loop.drive(2)
        loop.rig.clock.advance(2 * period_ns + 3 * MS)
    assert loop.rig.guard.phase is Phase.MOVING
    assert loop.rig.guard.report().num_holds == 0
    loop.rig.clock.advance(period_ns // 5)
    assert loop.rig.guard.phase is Phase.HELD


@PERIODS
def test_a_loop_that_is_a_period_late_on_the_way_to_a_start_is_not_held(period_ns: int):
    loop = Loop(period_ns)
    loop.rig.take(Reset(number=1, pose=FAR))
    loop.wait(4)
    loop.rig.clock.advance(period_ns)
    loop.wait(4)
    assert loop.rig.guard.report().num_holds == 0


def test_a_loop_that_sees_nothing_new_has_the_arm_brake_at_once():
    loop = Loop(100 * MS)
    loop.begin()
    loop.drive(6)
    loop.rig.clock.advance(30 * MS)
    loop.rig.take(Hold(t_ns=loop.rig.clock.now_ns()))
    assert loop.rig.guard.phase is Phase.HELD
    assert loop.rests_after_ns() <= 60 * MS
    assert loop.rig.guard.report().num_holds == 1


def test_saying_so_is_a_sign_of_life_and_saying_so_aside_is_none():
    loop = Loop(100 * MS)
    loop.begin()
    loop.drive(3)
    for _ in range(20):
        loop.rig.clock.advance(100 * MS)
        loop.rig.take(Hold(t_ns=loop.rig.clock.now_ns()))
    assert loop.rig.guard.phase is Phase.HELD
    assert loop.rig.guard.report().num_holds == 1
    loop.send()
    assert loop.rig.guard.phase is Phase.MOVING
    for _ in range(13):
        loop.rig.clock.advance(100 * MS)
        loop.rig.take(Hold(t_ns=0))
    assert loop.rig.guard.fault is not None
    assert loop.rig.guard.fault.code == "loop_gone"


def test_nothing_is_held_that_is_not_under_way():
    loop = Loop(100 * MS)
    loop.rig.take(Hold(t_ns=loop.rig.clock.now_ns()))
    assert loop.rig.guard.phase is Phase.IDLE
    loop.begin()
    loop.rig.take(Hold(t_ns=loop.rig.clock.now_ns()))
    assert loop.rig.guard.phase is Phase.READY
    assert loop.rig.guard.due_ns is None


def test_a_step_is_due_when_the_loop_will_have_been_silent_for_too_long():
    loop = Loop(100 * MS)
    loop.begin()
    loop.send()
    due_ns = loop.rig.guard.due_ns
    assert due_ns is not None
    loop.rig.clock.advance(due_ns - loop.rig.clock.now_ns() - 1)
    assert loop.rig.guard.phase is Phase.MOVING
    loop.rig.clock.advance(1)
    assert loop.rig.guard.phase is Phase.HELD


def test_an_arm_that_cannot_brake_harder_is_held_as_softly_as_it_moves(monkeypatch):
    from tests.robot.recording_arm import RecordingArm

    monkeypatch.delattr(RecordingArm, "brake")
    monkeypatch.setattr(RecordingArm, "command", _command)
    loop = Loop(100 * MS)
    loop.begin()
    loop.drive(6)
    loop.rig.take(Hold(t_ns=loop.rig.clock.now_ns()))
    (hold,) = loop.rig.holds
    ahead_m = LIMITS.max_speed_m_s**2 / (2 * LIMITS.max_acceleration_m_s2)
    assert hold.speed_m_s > 0.2
    assert math.dist(hold.target, hold.place) == pytest.approx(ahead_m, rel=0.1)


def _command(arm, target: ToolTarget) -> None:
    arm._advance()
    arm._target, arm._opening_target = target.position_m, target.gripper_opening
    arm._note("command")
