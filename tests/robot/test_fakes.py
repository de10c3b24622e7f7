from __future__ import annotations

import pytest

from robot.clock import SimulatedClock
from robot.fakes import CountingArm, CountingCamera, FaultyArm
from robot.faulty_camera import CameraTrouble, FaultyCamera
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


class TestFaultyCameraOutOfTrouble(CameraContract):
    def make_camera(self):
        clock = SimulatedClock()
        arm = CountingArm(clock)
        arm.connect()
        troubles = {1000: CameraTrouble.UNPLUG}
        return FaultyCamera(CountingCamera(arm, clock), clock, troubles), clock


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (CameraTrouble.FREEZE, (2, 200, 2)),
        (CameraTrouble.RESTAMP, (2, 300, 2)),
        (CameraTrouble.RENUMBER, (3, 200, 2)),
        (CameraTrouble.GO_BACK, (1, 100, 1)),
        (CameraTrouble.COUNT_ANEW, (-1, 300, 3)),
        (CameraTrouble.LAG_BEHIND, (3, -200, 3)),
        (CameraTrouble.RUN_AHEAD, (3, 800, 3)),
        (None, (3, 300, 3)),
    ],
)
def test_a_faulty_camera_does_as_it_is_told_and_then_works_again(trouble, expected):
    clock = SimulatedClock()
    arm = CountingArm(clock)
    arm.connect()
    camera = FaultyCamera(CountingCamera(arm, clock), clock, {2: trouble} if trouble else {})
    frames = []
    for _ in range(4):
        clock.advance(100_000_000)
        arm.command(ArmContract.goal)
        frames.append(camera.read())
    shown = [(f.frame_number, f.t_ns // 1_000_000, int(f.image[0, 0, 0])) for f in frames]
    assert shown == [(1, 100, 1), (2, 200, 2), expected, (4, 400, 4)]


def test_an_unplugged_camera_is_a_fault():
    clock = SimulatedClock()
    arm = CountingArm(clock)
    camera = FaultyCamera(CountingCamera(arm, clock), clock, {0: CameraTrouble.UNPLUG})
    with pytest.raises(RobotFault) as caught:
        camera.read()
    assert caught.value.code == "camera_gone"


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
