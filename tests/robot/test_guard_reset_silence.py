"""A loop that falls silent while the guard leads its arm to a start."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robot.guard_limits import GuardLimits
from robot.guard_messages import Hello, Phase, Reset, Waiting
from robot.interfaces import StartPose
from robot.safety import SafetyLimits
from tests.robot.guard_rig import LIMITS, PERIOD_NS, GuardRig

FAR = StartPose(position_m=(0.50, 0.10, 0.05), gripper_opening=0.6)


class Drive:
    """A loop that has asked for a reset, and says that it waits as long as it is told to."""

    def __init__(self, limits: GuardLimits = LIMITS) -> None:
        self.rig = GuardRig(limits)
        self.rig.guard.connect()
        self.rig.take(Hello(period_ns=PERIOD_NS, limits=SafetyLimits()))
        self.rig.take(Reset(number=1, pose=FAR))

    def wait(self, num_periods: int) -> None:
        for _ in range(2 * num_periods):
            self.rig.take(Waiting(t_ns=self.rig.clock.now_ns()))
            self.rig.clock.advance(PERIOD_NS // 2)

    def sleep(self, num_periods: int) -> None:
        self.rig.clock.advance(num_periods * PERIOD_NS)

    @property
    def place(self) -> tuple[float, float, float]:
        return self.rig.guard.report().state.position_m  # type: ignore[union-attr]


@pytest.fixture
def drive() -> Drive:
    return Drive()


def test_a_loop_that_waits_gets_its_start(drive: Drive) -> None:
    drive.wait(60)
    assert drive.rig.guard.phase is Phase.READY
    assert math.dist(drive.place, FAR.position_m) < 2e-3


def test_a_silent_loop_has_the_arm_held_and_it_goes_on_when_it_is_heard(drive: Drive) -> None:
    drive.wait(3)
    drive.sleep(5)
    held = drive.place
    assert math.dist(held, FAR.position_m) > 0.03
    num_told = len(drive.rig.commands())
    drive.sleep(3)
    assert drive.place == held
    assert len(drive.rig.commands()) == num_told
    assert drive.rig.guard.report().num_holds == 1
    assert drive.rig.guard.phase is Phase.RESETTING
    drive.wait(80)
    assert drive.rig.guard.phase is Phase.READY
    assert math.dist(drive.place, FAR.position_m) < 2e-3


def test_an_arm_that_is_held_again_and_again_on_its_way_down_arrives() -> None:
    drive = Drive(dataclasses.replace(LIMITS, crossing_height_m=0.25))
    for _ in range(40):
        drive.wait(5)
        drive.sleep(2)
        if drive.rig.guard.phase is Phase.READY:
            break
    assert drive.rig.guard.report().num_holds > 5
    assert drive.rig.guard.phase is Phase.READY
    assert math.dist(drive.place, FAR.position_m) < 2e-3
    # Held on its way across, it was led over the table again, not down to it.
    crossed = [e.target for e in drive.rig.commands() if 0.405 < e.target[0] < 0.495]
    assert crossed
    assert min(z for _, _, z in crossed) > 0.24


def test_a_loop_that_stays_silent_is_gone(drive: Drive) -> None:
    drive.wait(3)
    drive.sleep(round(1.1e9 / PERIOD_NS))
    assert drive.rig.guard.fault is not None
    assert drive.rig.guard.fault.code == "loop_gone"
    drive.wait(2)
    assert drive.rig.guard.phase is Phase.LATCHED


def test_an_old_word_is_no_sign_of_life(drive: Drive) -> None:
    drive.wait(3)
    said_ns = drive.rig.clock.now_ns()
    for _ in range(round(1.4e9 / PERIOD_NS)):
        drive.sleep(1)
        drive.rig.take(Waiting(t_ns=said_ns))
    assert drive.rig.guard.fault is not None


def test_an_arm_held_outside_the_box_stays_where_it_is() -> None:
    drive = Drive()
    far_m = (0.40, 0.0, 0.55)  # above the box
    drive.rig.real.place = far_m
    drive.rig.clock.advance(PERIOD_NS // 10)
    drive.rig.take(Reset(number=2, pose=FAR))
    drive.wait(4)
    drive.sleep(10)
    held = drive.place
    assert held[2] > 0.40, "it was held on its way, not sent on into the box"
    drive.sleep(3)
    assert drive.place == held
