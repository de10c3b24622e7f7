from __future__ import annotations

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.sim.arm import SimArm
from robot.sim.config import SimConfig
from robot.sim.world import MAX_CATCH_UP_S, SimWorld
from tests.contracts.arm import ArmContract

PICK = SimConfig(task="pick")
START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=1.0)


def make_arm(config: SimConfig = PICK) -> tuple[SimArm, SimWorld, SimulatedClock]:
    clock = SimulatedClock()
    world = SimWorld(config, clock)
    arm = SimArm(world)
    arm.connect()
    return arm, world, clock


class TestSimArm(ArmContract):
    def make_arm(self):
        clock = SimulatedClock()
        return SimArm(SimWorld(PICK, clock)), clock


def test_a_step_of_the_policy_arrives_within_its_period():
    arm, _, clock = make_arm()
    arm.reset(START)
    target = ToolTarget(position_m=(0.4225, 0.0, 0.12), gripper_opening=1.0)
    arm.command(target)
    clock.advance(100_000_000)
    assert np.linalg.norm(np.subtract(arm.state().position_m, target.position_m)) < 4e-3


def test_a_long_move_does_not_overshoot():
    arm, _, clock = make_arm()
    arm.reset(START)
    arm.command(ToolTarget(position_m=(0.45, 0.0, 0.12), gripper_opening=1.0))
    places = []
    for _ in range(80):
        clock.advance(10_000_000)
        places.append(arm.state().position_m[0])
    assert max(places) < 0.452
    assert places[-1] == pytest.approx(0.45, abs=1e-3)


def test_the_tool_stays_down_while_moving():
    arm, _, clock = make_arm()
    arm.reset(START)
    rng = np.random.default_rng(0)
    for _ in range(30):
        place = rng.uniform((0.25, -0.15, 0.015), (0.55, 0.15, 0.315))
        arm.command(ToolTarget(position_m=tuple(place), gripper_opening=1.0))
        clock.advance(200_000_000)
        roll, pitch, yaw = arm.state().rotation_rad
        assert abs(abs(roll) - np.pi) < 0.1
        assert abs(pitch) < 0.1
        assert abs(yaw) < 0.1


def test_the_gripper_opens_and_closes_at_its_own_speed():
    arm, _, clock = make_arm()
    arm.reset(START)
    arm.command(ToolTarget(position_m=START.position_m, gripper_opening=0.0))
    clock.advance(100_000_000)
    assert 0.7 < arm.state().gripper_opening < 0.95
    clock.advance(600_000_000)
    state = arm.state()
    assert state.gripper_opening == pytest.approx(0.0, abs=0.02)
    assert not state.is_gripper_stuck


def test_a_grasped_object_makes_the_gripper_stuck_and_comes_along():
    arm, world, clock = make_arm()
    world.reset()
    world.place_body("object", np.array([0.40, 0.0, 0.03]), yaw_rad=0.4)
    arm.reset(StartPose(position_m=(0.40, 0.0, 0.035), gripper_opening=1.0))
    assert not world.is_grasped("object")
    arm.command(ToolTarget(position_m=(0.40, 0.0, 0.035), gripper_opening=0.0))
    clock.advance(800_000_000)
    assert arm.state().is_gripper_stuck
    assert world.is_grasped("object")
    arm.command(ToolTarget(position_m=(0.40, 0.0, 0.20), gripper_opening=0.0))
    clock.advance(900_000_000)
    arm.state()
    assert world.body_position("object")[2] == pytest.approx(0.195, abs=0.01)
    arm.command(ToolTarget(position_m=(0.40, 0.0, 0.20), gripper_opening=1.0))
    clock.advance(900_000_000)
    assert not arm.state().is_gripper_stuck
    assert not world.is_grasped("object")
    assert world.body_position("object")[2] < 0.05


def test_an_unreachable_start_latches():
    arm, _, _ = make_arm()
    with pytest.raises(RobotFault) as caught:
        arm.reset(StartPose(position_m=(1.5, 0.0, 0.1)))
    assert caught.value.code == "unreachable"


def test_a_long_pause_is_dropped_and_counted():
    arm, world, clock = make_arm()
    arm.reset(START)
    arm.command(ToolTarget(position_m=(0.45, 0.0, 0.12), gripper_opening=1.0))
    clock.advance(3_600_000_000_000)
    state = arm.state()
    assert state.position_m[0] == pytest.approx(0.45, abs=1e-3)
    assert world.dropped_s == pytest.approx(3600 - MAX_CATCH_UP_S)
    assert 0 <= clock.now_ns() - state.t_ns < 2_000_000


def test_asking_more_often_changes_nothing():
    ends = []
    for pause_ns in (100_000_000, 7_000_000):
        arm, world, clock = make_arm()
        arm.reset(START)
        arm.command(ToolTarget(position_m=(0.45, 0.05, 0.10), gripper_opening=0.3))
        while clock.now_ns() + pause_ns <= 700_000_000:
            clock.advance(pause_ns)
            arm.state()
        clock.sleep_until_ns(700_000_000)
        arm.state()
        ends.append(world.data.qpos.copy())
    assert np.array_equal(ends[0], ends[1])
