"""What every arm must do, whoever made it: a base class to inherit in a test module."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.interfaces import Arm, RobotFault, StartPose, ToolTarget


class ArmContract:
    """Subclasses give `make_arm`; the clock they return is the arm's own."""

    start = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)
    goal = ToolTarget(position_m=(0.42, 0.02, 0.12), gripper_opening=0.6)
    is_place_measured = True
    """The state is where the arm is, and not something else that tests need."""

    def make_arm(self) -> tuple[Arm, SimulatedClock]:
        raise NotImplementedError

    @pytest.fixture
    def arm_and_clock(self):
        arm, clock = self.make_arm()
        arm.connect()
        yield arm, clock
        arm.close()

    def test_is_an_arm(self):
        assert isinstance(self.make_arm()[0], Arm)

    def test_refuses_to_move_before_connect(self):
        arm, _ = self.make_arm()
        with pytest.raises(RobotFault) as caught:
            arm.reset(self.start)
        assert caught.value.code == "not_connected"

    def test_reset_ends_at_the_start_at_rest(self, arm_and_clock):
        arm, clock = arm_and_clock
        arm.reset(self.start)
        first = arm.state()
        clock.advance(300_000_000)
        second = arm.state()
        assert np.allclose(first.position_m, second.position_m, atol=1e-3)
        if self.is_place_measured:
            assert np.allclose(first.position_m, self.start.position_m, atol=2e-3)
            assert first.gripper_opening == pytest.approx(self.start.gripper_opening, abs=0.03)

    def test_state_is_finite_and_its_time_follows_the_clock(self, arm_and_clock):
        arm, clock = arm_and_clock
        arm.reset(self.start)
        before = arm.state()
        clock.advance(100_000_000)
        after = arm.state()
        assert 0 <= clock.now_ns() - after.t_ns <= 10_000_000
        assert after.t_ns > before.t_ns
        numbers = (*after.position_m, *after.rotation_rad, after.gripper_opening)
        assert all(math.isfinite(number) for number in numbers)
        assert 0.0 <= after.gripper_opening <= 1.0

    def test_command_returns_at_once_and_is_followed(self, arm_and_clock):
        arm, clock = arm_and_clock
        arm.reset(self.start)
        t_ns = clock.now_ns()
        arm.command(self.goal)
        assert clock.now_ns() == t_ns
        clock.advance(800_000_000)
        if self.is_place_measured:
            assert np.allclose(arm.state().position_m, self.goal.position_m, atol=3e-3)

    def test_stop_ends_motion_and_latches(self, arm_and_clock):
        arm, clock = arm_and_clock
        arm.reset(self.start)
        arm.command(self.goal)
        arm.stop()
        assert arm.fault is not None
        with pytest.raises(RobotFault):
            arm.command(self.goal)
        with pytest.raises(RobotFault):
            arm.reset(self.start)
        clock.advance(500_000_000)
        resting = arm.state()
        clock.advance(500_000_000)
        assert np.allclose(arm.state().position_m, resting.position_m, atol=1e-3)

    def test_a_stop_with_a_cause_latches_the_cause(self, arm_and_clock):
        arm, _ = arm_and_clock
        arm.reset(self.start)
        arm.stop(RobotFault("camera_stale", "nothing new for 1.0 s"))
        assert arm.fault is not None
        assert arm.fault.code == "camera_stale"
        with pytest.raises(RobotFault, match="camera_stale"):
            arm.command(self.goal)

    def test_only_clear_fault_unlatches(self, arm_and_clock):
        arm, _ = arm_and_clock
        arm.reset(self.start)
        arm.stop()
        arm.connect()
        assert arm.fault is not None
        arm.clear_fault()
        assert arm.fault is None
        arm.reset(self.start)
        arm.command(self.goal)

    def test_a_second_stop_keeps_the_first_fault(self, arm_and_clock):
        arm, _ = arm_and_clock
        arm.reset(self.start)
        with pytest.raises(RobotFault):
            arm.command(dataclasses.replace(self.goal, gripper_opening=math.nan))
        assert arm.fault is not None
        code = arm.fault.code
        arm.stop()
        assert arm.fault.code == code

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_target_that_is_no_number_latches(self, arm_and_clock, bad):
        arm, _ = arm_and_clock
        arm.reset(self.start)
        with pytest.raises(RobotFault) as caught:
            arm.command(ToolTarget(position_m=(bad, 0.0, 0.1), gripper_opening=0.5))
        assert caught.value.code == "target_not_finite"
        assert arm.fault is not None

    def test_close_may_be_called_twice(self):
        arm, _ = self.make_arm()
        arm.connect()
        arm.close()
        arm.close()
