"""A stop reaches the gripper, and what goes wrong in its thread is a fault that can be cleared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.doubles.xarm_frames import Register, Reply, Request
from robot.doubles.xarm_server import XArmController
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.xarm_config import XArmConfig
from robot.xarm_gripper import XArmGripper
from robot.xarm_lines import XArmLines
from robot.xarm_reports import Measured
from robot.xarm_units import to_opening, to_pulses
from tests.robot.xarm_rig import config_for, connected_arm, make_controller
from tests.services.rig import wait_until

HERE_M = (0.40, 0.0, 0.20)
START = StartPose(position_m=HERE_M, gripper_opening=1.0)
CLOSE = ToolTarget(position_m=HERE_M, gripper_opening=0.0)


def num_asked(controller: XArmController) -> int:
    with controller.machine.lock:
        registers = [received.register for received in controller.machine.received]
    return registers.count(Register.RS485_RTU)


def wait_for_readings(controller: XArmController) -> None:
    """Waits until the driver's thread has been round at least twice: a reading is two requests."""
    asked = num_asked(controller)
    wait_until(lambda: num_asked(controller) >= asked + 6)


def opening_of(controller: XArmController) -> float:
    with controller.machine.lock:
        return controller.machine.body.gripper_opening()


def test_a_stop_ends_a_motion_of_the_gripper_where_it_is():
    with connected_arm() as (arm, controller, clock):
        arm.reset(START)
        controller.machine.gripper.targets.clear()
        arm.command(CLOSE)
        wait_until(lambda: controller.machine.gripper.targets == [to_pulses(0.0)])
        clock.advance(200_000_000)
        wait_for_readings(controller)
        arm.stop()
        wait_until(lambda: len(controller.machine.gripper.targets) == 2)
        stopped_at = opening_of(controller)
        assert 0.5 < stopped_at < 0.95
        last = controller.machine.gripper.targets[-1]
        assert to_opening(last) == pytest.approx(stopped_at, abs=0.005)
        clock.advance(3_000_000_000)
        wait_for_readings(controller)
        assert opening_of(controller) == pytest.approx(stopped_at, abs=0.005)
        assert controller.machine.gripper.targets == [to_pulses(0.0), last]


def test_a_fault_of_the_arm_and_the_end_of_the_driver_stop_the_gripper_too():
    for is_fault in (True, False):
        with connected_arm() as (arm, controller, clock):
            arm.reset(START)
            controller.machine.gripper.targets.clear()
            arm.command(CLOSE)
            wait_until(lambda: controller.machine.gripper.targets == [to_pulses(0.0)])
            clock.advance(200_000_000)
            if is_fault:
                controller.faults.error(31)
                arm.state()
            else:
                arm.close()
            wait_until(lambda: len(controller.machine.gripper.targets) == 2)
            assert to_opening(controller.machine.gripper.targets[-1]) > 0.5


def test_a_grip_that_was_not_sent_before_a_stop_is_never_sent():
    clock = MonotonicClock()
    with connected_arm(clock) as (arm, controller, _):
        arm.reset(START)
        controller.machine.gripper.targets.clear()
        controller.faults.gripper_delay_s = 0.5
        asked = num_asked(controller)
        wait_until(lambda: num_asked(controller) > asked)
        arm.command(CLOSE)
        arm.stop()
        controller.faults.gripper_delay_s = 0.0
        wait_for_readings(controller)
        assert controller.machine.gripper.targets == []
        arm.clear_fault()
        arm.reset(StartPose(position_m=HERE_M, gripper_opening=0.5))
        assert controller.machine.gripper.targets == [to_pulses(0.5)]


def test_a_stop_does_not_let_go_of_what_is_held():
    with connected_arm() as (arm, controller, clock):
        arm.reset(START)
        controller.machine.gripper.targets.clear()
        controller.faults.put_object(0.4)
        arm.reset(StartPose(position_m=HERE_M, gripper_opening=0.0))
        clock.advance(1_000_000_000)
        wait_for_readings(controller)
        arm.stop()
        wait_for_readings(controller)
        assert controller.machine.gripper.targets[-1] == to_pulses(0.0)
        assert arm.state().is_gripper_stuck


class BrokenApi:
    """A gripper's connection that raises, as the SDK does where its own code fails."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.num_read = 0
        self.sent: list[int] = []

    def set_gripper_mode(self, _mode: int) -> int:
        return 0

    def set_gripper_enable(self, _enable: bool) -> int:  # noqa: FBT001 as the SDK has it
        return 0

    def set_gripper_speed(self, _speed: int) -> int:
        return 0

    def clean_gripper_error(self) -> int:
        return 0

    def set_gripper_position(self, pulses: int, **_how: bool) -> int:
        self.sent.append(pulses)
        return 0

    def get_gripper_position(self) -> tuple[int, int]:
        self.num_read += 1
        if self.error is not None:
            raise self.error
        return 0, 850


Made = tuple[XArmGripper, BrokenApi, list[RobotFault]]


@pytest.fixture
def made() -> Iterator[Made]:
    api, faults = BrokenApi(), []
    gripper = XArmGripper(api, XArmConfig(gripper_poll_s=0.01), SimulatedClock(), faults.append)
    gripper.start()
    yield gripper, api, faults
    gripper.close()


def test_what_the_sdk_raises_is_a_fault_and_after_an_ack_the_gripper_works_again(made: Made):
    gripper, api, faults = made
    api.error = AttributeError("no socket")
    wait_until(lambda: faults != [])
    assert [fault.code for fault in faults] == ["sdk_error"]
    assert gripper.fault is faults[0]
    with pytest.raises(RobotFault, match="no socket"):
        gripper.start()
    api.error = None
    gripper.repair()
    gripper.start()
    assert gripper.fault is None
    gripper.set(0.3)
    wait_until(lambda: api.sent == [to_pulses(0.3)])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_a_fault_and_is_started_again(made: Made):
    gripper, api, faults = made

    def is_running() -> bool:
        return any(thread.name == "xarm-gripper" for thread in threading.enumerate())

    api.error = KeyboardInterrupt()
    wait_until(lambda: not is_running())
    assert [fault.code for fault in faults] == ["gripper_silent"]
    assert gripper.fault is not None
    api.error = None
    gripper.repair()
    gripper.start()
    num_read = api.num_read
    wait_until(lambda: api.num_read > num_read + 2)
    assert gripper.fault is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_stands_though_whoever_was_told_of_it_broke():
    api, told = BrokenApi(), []

    def break_down(fault: RobotFault) -> None:
        told.append(fault)
        raise ValueError("a bug of whoever is told")

    gripper = XArmGripper(api, XArmConfig(gripper_poll_s=0.01), SimulatedClock(), break_down)
    gripper.start()
    api.error = OSError("no socket")
    wait_until(lambda: all(thread.name != "xarm-gripper" for thread in threading.enumerate()))
    assert told[0].code == "sdk_error"
    assert gripper.fault is not None
    api.error = None
    gripper.repair()
    gripper.start()
    assert gripper.fault is None
    gripper.close()


def test_a_fault_that_comes_while_another_is_being_cleared_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
):
    made: list[XArmGripper] = []

    def make(*parts: Any) -> XArmGripper:
        made.append(XArmGripper(*parts))
        return made[-1]

    monkeypatch.setattr("robot.xarm.XArmGripper", make)
    with connected_arm() as (arm, controller, _):
        arm.reset(START)
        controller.machine.gripper.targets.clear()
        arm.stop()
        ask = XArmLines.ask

        def ask_late(lines: XArmLines) -> Measured:
            controller.faults.gripper_error(11)
            wait_until(lambda: made[-1].fault is not None)
            return ask(lines)

        with monkeypatch.context() as patched:
            patched.setattr(XArmLines, "ask", ask_late)
            arm.clear_fault()
        arm.state()
        assert arm.fault is not None
        assert arm.fault.code == "gripper_error"


class LossyLine:
    """Has the next answers of the gripper lost on its serial line, though the line works."""

    def __init__(self, controller: XArmController) -> None:
        self.num_to_lose = 0
        answers = controller.machine._answers
        self._answer = answers[Register.RS485_RTU]
        answers[Register.RS485_RTU] = self._take

    def _take(self, request: Request) -> Reply:
        reply = self._answer(request)
        if self.num_to_lose == 0:
            return reply
        self.num_to_lose -= 1
        return Reply(state=reply.state, data=b"")


def test_an_answer_that_the_gripper_s_line_loses_is_no_fault_and_many_in_a_row_are():
    with connected_arm() as (arm, controller, _):
        arm.reset(START)
        line = LossyLine(controller)
        for _ in range(3):
            line.num_to_lose = 1
            wait_for_readings(controller)
            assert line.num_to_lose == 0
            arm.state()
            assert arm.fault is None
        line.num_to_lose = 1000
        wait_until(lambda: arm.state() is not None and arm.fault is not None)
        assert arm.fault is not None
        assert arm.fault.code == "sdk_garbled"
        line.num_to_lose = 0
        arm.clear_fault()
        arm.reset(START)


def test_an_error_of_the_controller_is_cleared_also_when_it_answers_slowly():
    clock = MonotonicClock()
    with make_controller(clock) as controller:
        lines = XArmLines(config_for(controller), clock)
        controller.machine.error = 31
        controller.faults.reply_delay_s = 0.4
        lines.clear_errors()
        controller.faults.reply_delay_s = 0.0
        assert controller.machine.error == 0
        lines.close()
