from __future__ import annotations

import pytest

from robot.clock import SimulatedClock
from robot.fakes import CountingArm, CountingCamera, FaultyArm
from robot.interfaces import RobotFault
from robot.sim.arm import SimArm
from robot.sim.config import SimConfig
from robot.sim.world import SimWorld
from tests.contracts.arm import ArmContract
from tests.contracts.camera import CameraContract


class TestCountingArm(ArmContract):
    is_place_measured = False

    def make_arm(self):
        clock = SimulatedClock()
        return CountingArm(clock), clock


class TestFaultyArmBeforeItsFault(ArmContract):
    def make_arm(self):
        clock = SimulatedClock()
        arm = SimArm(SimWorld(SimConfig(task="pick"), clock))
        return FaultyArm(arm, fault_at_command=1000), clock


class TestCountingCamera(CameraContract):
    def make_camera(self):
        clock = SimulatedClock()
        arm = CountingArm(clock)
        arm.connect()
        return CountingCamera(arm, clock), clock


def test_a_faulty_arm_breaks_down_once():
    clock = SimulatedClock()
    arm = FaultyArm(CountingArm(clock), fault_at_command=2, code="overspeed")
    arm.connect()
    arm.reset(ArmContract.start)
    arm.command(ArmContract.goal)
    arm.command(ArmContract.goal)
    for _ in range(2):
        with pytest.raises(RobotFault) as caught:
            arm.command(ArmContract.goal)
        assert caught.value.code == "overspeed"
    with pytest.raises(RobotFault):
        arm.reset(ArmContract.start)
    assert arm.state().position_m[0] == 2.0
    arm.clear_fault()
    arm.reset(ArmContract.start)
    for _ in range(5):
        arm.command(ArmContract.goal)
    assert arm.state().position_m[0] == 5.0


def test_a_counting_camera_shows_the_count_modulo_256():
    clock = SimulatedClock()
    arm = CountingArm(clock)
    arm.connect()
    camera = CountingCamera(arm, clock, image_size=4)
    for _ in range(300):
        arm.command(ArmContract.goal)
    assert set(camera.read().image.ravel().tolist()) == {300 % 256}
