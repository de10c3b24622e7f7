"""A reset leads to the start through the box, slowly, with the tool down, or is a fault."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from robot.guard_limits import GuardLimits
from robot.guard_messages import Ack, Phase
from robot.interfaces import Arm, ArmState, RobotFault, StartPose, ToolTarget
from tests.robot import guard_rig
from tests.robot.guard_rig import LIMITS, PERIOD_NS, START, Drive, GuardRig, moved
from tests.robot.recording_arm import RecordingArm

rig, drive = guard_rig.rig, guard_rig.drive


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


class NoisyArm(RecordingArm):
    """Measures with a tenth of a millimetre of noise."""

    rng = random.Random(5)

    def state(self) -> ArmState:
        state = super().state()
        x, y, z = (at + self.rng.gauss(0, 1e-4) for at in state.position_m)
        return dataclasses.replace(state, position_m=(x, y, z))


class NoisyRig(GuardRig):
    def make_real(self) -> Arm:
        return NoisyArm(self.clock, self.record.append)


def test_a_reset_ends_although_the_arm_measures_with_noise():
    rig = NoisyRig()
    rig.guard.connect()
    arm = rig.make_arm()
    arm.connect()
    began_ns = rig.clock.now_ns()
    arm.reset(START)
    assert math.dist(rig.real.place, START.position_m) < 1.5e-3
    assert rig.clock.now_ns() - began_ns < 5_000_000_000


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
