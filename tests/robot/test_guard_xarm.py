"""Loop's arm, guard, the real driver and the controller's double, in one row."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import pytest

from robot.doubles.xarm_server import SLOW_EVERY
from robot.guard import AckRefused, Guard
from robot.guard_messages import Ack, Phase
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.xarm import XArm
from tests.robot.guard_rig import LIMITS, PERIOD_NS, GuardRig
from tests.robot.xarm_rig import config_for, make_controller

START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)


@pytest.fixture
def rig() -> Iterator[GuardRig]:
    made = GuardRig()
    with make_controller(made.clock, slow_every=SLOW_EVERY) as controller:
        arm = XArm(config_for(controller), made.clock)
        made.guard = Guard(arm, LIMITS, made.clock, made.faults)
        made.guard.connect()
        yield made
        made.guard.shut_down()


def test_a_trial_through_the_driver(rig: GuardRig):
    arm = rig.make_arm()
    arm.connect()
    arm.reset(START)
    state = arm.state()
    assert math.dist(state.position_m, START.position_m) < 1.5e-3
    assert state.gripper_opening == pytest.approx(0.6, abs=0.05)
    for k in range(10):
        target = ToolTarget(position_m=(0.40, 0.01 * (k + 1), 0.12), gripper_opening=0.6)
        arm.command(target)
        rig.clock.advance(PERIOD_NS)
    assert arm.state().position_m[1] == pytest.approx(0.10, abs=0.02)
    rig.clock.advance(PERIOD_NS)
    assert arm.state().position_m[1] == pytest.approx(0.10, abs=2e-3)
    arm.rest()
    rig.clock.advance(20 * PERIOD_NS)
    assert (rig.guard.phase, rig.guard.fault) == (Phase.READY, None)
    arm.reset(START)


def test_silence_latches_stops_the_controller_and_a_person_has_it_go_on(rig: GuardRig):
    arm = rig.make_arm()
    arm.connect()
    arm.reset(START)
    arm.command(ToolTarget(position_m=(0.42, 0.0, 0.12), gripper_opening=0.6))
    rig.clock.advance(12 * PERIOD_NS)
    assert rig.guard.fault is not None
    assert rig.guard.fault.code == "loop_gone"
    with pytest.raises(RobotFault):
        arm.reset(START)
    rig.take(Ack())
    arm.reset(START)
    assert rig.guard.phase is Phase.READY


def test_a_normal_end_is_no_error(rig: GuardRig, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    arm = rig.make_arm()
    arm.connect()
    arm.reset(START)
    arm.rest()
    arm.stop()  # as a loop does on its way out
    arm.close()
    rig.guard.shut_down()
    assert "the arm is stopped" in caplog.text
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_an_emergency_stop_from_before_the_guard_is_latched_and_cleared():
    rig = GuardRig()
    with make_controller(rig.clock, slow_every=SLOW_EVERY) as controller:
        assert controller.faults.obey("estop") == "ok"
        rig.guard = Guard(XArm(config_for(controller), rig.clock), LIMITS, rig.clock, rig.faults)
        rig.guard.connect()
        assert rig.guard.fault is not None
        assert rig.guard.fault.code == "controller_c1"
        assert rig.faults.load() is not None
        with pytest.raises(AckRefused):
            rig.guard.acknowledge()
        assert controller.faults.obey("estop release") == "ok"
        assert rig.guard.acknowledge() is not None
        assert rig.faults.load() is None
        arm = rig.make_arm()
        arm.connect()
        arm.reset(START)
        rig.guard.shut_down()
