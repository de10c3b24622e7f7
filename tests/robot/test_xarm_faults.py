"""What goes wrong with the arm becomes a named fault that stays until a person clears it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from robot.clock import MonotonicClock
from robot.doubles.xarm_frames import Register
from robot.doubles.xarm_server import XArmController
from robot.interfaces import NOT_CONFIRMED, ConfirmingArm, RobotFault, StartPose, ToolTarget
from robot.xarm import XArm
from robot.xarm_lines import XArmLines
from robot.xarm_reset import ResetWay
from tests.robot.xarm_rig import connected_arm, impatient
from tests.services.rig import wait_until

POSE = StartPose(position_m=(0.40, 0.0, 0.20), gripper_opening=1.0)
GOAL = ToolTarget(position_m=(0.45, 0.0, 0.20), gripper_opening=1.0)
FAR = ToolTarget(position_m=(0.40, 0.17, 0.20), gripper_opening=1.0)


def code_of(function, *arguments) -> str:
    with pytest.raises(RobotFault) as caught:
        function(*arguments)
    return caught.value.code


@pytest.mark.parametrize("error", [1, 19, 22, 24, 31, 35])
def test_an_error_of_the_controller_latches_by_name_until_cleared(error):
    with connected_arm() as (arm, controller, clock):
        arm.reset(POSE)
        arm.command(GOAL)
        clock.advance(50_000_000)
        controller.faults.error(error)
        arm.state()
        assert arm.fault is not None
        assert arm.fault.code == f"controller_c{error}"
        assert code_of(arm.command, GOAL) == f"controller_c{error}"
        assert code_of(arm.reset, POSE) == f"controller_c{error}"
        num_motions = len(controller.machine.motions)
        clock.advance(1_000_000_000)
        resting = arm.state()
        clock.advance(1_000_000_000)
        assert arm.state().position_m == resting.position_m
        assert len(controller.machine.motions) == num_motions
        arm.clear_fault()
        assert arm.fault is None
        arm.reset(POSE)


@pytest.mark.parametrize("error", [22, 31])
def test_an_error_is_found_by_a_command_too(error):
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        controller.faults.error(error)
        assert code_of(arm.command, GOAL) == f"controller_c{error}"
        assert not controller.machine.motions[-1].is_taken


def test_a_fault_stays_when_somebody_else_clears_the_error():
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        controller.faults.error(31)
        arm.state()
        with controller.machine.lock:
            controller.machine.error, controller.machine.state = 0, 2
        arm.state()
        assert code_of(arm.command, GOAL) == "controller_c31"


def test_a_stop_and_a_pause_from_outside_latch():
    with connected_arm() as (arm, controller, clock):
        for wrong, code in (("stop", "state_stopped"), ("pause", "state_paused")):
            arm.reset(POSE)
            arm.command(GOAL)
            controller.faults.obey(wrong)
            clock.advance(100_000_000)
            arm.state()
            assert code_of(arm.command, GOAL) == code
            assert controller.machine.state == 4
            arm.clear_fault()


def test_another_mode_set_from_outside_latches_and_stops_the_arm():
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        with controller.machine.lock:
            # Another program has switched over and is ready again, between two looks at the arm.
            controller.machine.mode = 0
        deadline = time.monotonic() + 20
        while arm.fault is None:
            assert time.monotonic() < deadline
            arm.state()
        assert code_of(arm.command, GOAL) == "mode_changed"
        assert controller.machine.state == 4
        arm.clear_fault()
        assert controller.machine.mode == 7
        arm.reset(POSE)


def test_an_emergency_stop_is_not_cleared_while_it_is_pressed():
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        controller.faults.press_emergency_stop()
        assert code_of(arm.command, GOAL) == "controller_c1"
        assert code_of(arm.clear_fault) == "controller_c1"
        assert code_of(arm.command, GOAL) == "controller_c1"
        controller.faults.release_emergency_stop()
        assert code_of(arm.command, GOAL) == "controller_c1"
        arm.clear_fault()
        arm.reset(POSE)


def test_a_warning_stops_nothing():
    with connected_arm() as (arm, controller, clock):
        arm.reset(POSE)
        controller.faults.warning(11)
        arm.command(GOAL)
        clock.advance(800_000_000)
        assert np.allclose(arm.state().position_m, GOAL.position_m, atol=1e-4)
        assert arm.fault is None


def test_a_target_outside_the_fence_is_never_sent():
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        num_motions = len(controller.machine.motions)
        outside = ToolTarget(position_m=(0.40, 0.19, 0.20), gripper_opening=1.0)
        assert code_of(arm.command, outside) == "target_outside_fence"
        assert len(controller.machine.motions) == num_motions
        assert arm.fault is not None
        assert controller.machine.state == 4


def test_a_controller_that_hangs_is_a_timeout_and_state_stays_old():
    with connected_arm(MonotonicClock()) as (arm, controller, clock):
        arm.reset(POSE)
        before = arm.state()
        controller.faults.is_mute = controller.faults.is_report_silent = True
        began_ns = clock.now_ns()
        with impatient(arm, command_timeout_s=0.5):
            assert code_of(arm.command, GOAL) == "sdk_timeout"
        # The SDK itself would wait for 10 s, and so might a look now: it does not ask at all.
        assert clock.now_ns() - began_ns < 8_000_000_000
        began_ns = clock.now_ns()
        after = arm.state()
        assert clock.now_ns() - began_ns < 8_000_000_000
        assert after.position_m == before.position_m
        controller.faults.is_mute = controller.faults.is_report_silent = False
        arm.clear_fault()
        arm.reset(POSE)


def test_a_target_given_up_does_not_move_the_arm_after_the_fault_is_cleared():
    with connected_arm() as (arm, controller, clock):
        arm.reset(POSE)
        controller.faults.reply_delay_s = 10.0
        with impatient(arm, command_timeout_s=0.5):
            assert code_of(arm.command, FAR) == "sdk_timeout"
        controller.faults.reply_delay_s = 0.0
        arm.clear_fault()
        resting = arm.state()
        num_motions = len(controller.machine.motions)
        clock.advance(3_000_000_000)
        assert arm.state().position_m == resting.position_m
        assert len(controller.machine.motions) == num_motions


def test_a_pulled_cable_is_a_lost_connection_and_clearing_connects_again():
    with connected_arm() as (arm, controller, clock):
        arm.reset(POSE)
        controller.faults.reset_connections()
        clock.advance(200_000_000)
        assert code_of(arm.command, GOAL) in ("connection_lost", "sdk_timeout")
        before = arm.state()
        clock.advance(200_000_000)
        assert arm.state() == before
        controller.faults.refuse_connections()
        assert code_of(arm.clear_fault) == "not_connected"
        assert arm.fault is not None
        controller.faults.accept_connections()
        arm.clear_fault()
        arm.reset(POSE)
        assert arm.state().t_ns > before.t_ns


def test_a_silent_report_is_bridged_by_asking_and_then_a_fault():
    with connected_arm(MonotonicClock()) as (arm, controller, clock):
        arm.reset(POSE)
        controller.faults.is_report_silent = True
        began_ns = clock.now_ns()
        while arm.fault is None:
            asked_ns = clock.now_ns()
            state = arm.state()
            assert asked_ns - 30_000_000 <= state.t_ns
            assert clock.now_ns() - began_ns < 30_000_000_000
            clock.sleep_until_ns(clock.now_ns() + 10_000_000)
        assert arm.fault.code == "report_silent"
        assert clock.now_ns() - began_ns > 2_000_000_000


def received_ns(controller: XArmController, register: Register, data: bytes = b"") -> list[int]:
    """When requests came that begin with `data`."""
    with controller.machine.lock:
        return [
            received.t_ns
            for received in controller.machine.received
            if received.register == register and received.data.startswith(data)
        ]


def test_a_stop_overtakes_a_call_that_waits_for_its_answer():
    clock = MonotonicClock()
    with connected_arm(clock, command_timeout_s=30.0) as (arm, controller, _):
        arm.reset(POSE)
        arm.command(FAR)
        controller.faults.reply_delay_s = 5.0
        hanging = threading.Thread(target=lambda: pytest.raises(RobotFault, arm.command, FAR))
        num_motions = len(controller.machine.motions)
        hanging.start()
        deadline = time.monotonic() + 20
        while len(controller.machine.motions) == num_motions:
            assert time.monotonic() < deadline
        began_ns = clock.now_ns()
        with impatient(arm):
            arm.stop()
        ended_ns = clock.now_ns()
        stops_ns = received_ns(controller, Register.SET_STATE, b"\x04")
        (stopped_ns,) = [t_ns for t_ns in stops_ns if t_ns >= began_ns]
        answered_ns = received_ns(controller, Register.MOVE_LINE)[-1] + 5_000_000_000
        assert stopped_ns < ended_ns < answered_ns
        assert hanging.is_alive()
        assert controller.machine.state == 4
        with controller.machine.lock:
            controller.machine.advance(clock.now_ns())
            assert controller.machine.body.speed_m_s == 0.0
        # What was taken for sent cannot be confirmed: the answer to the stop is late as well.
        assert arm.fault is not None
        assert arm.fault.code == "stop_not_confirmed"
        controller.faults.reply_delay_s = 0.0
        hanging.join(20.0)
        assert not hanging.is_alive()


def test_a_stop_is_confirmed_at_once():
    clock = MonotonicClock()
    with connected_arm(clock) as (arm, controller, _):
        arm.reset(POSE)
        arm.command(FAR)
        # Neither is the gripper's answer waited for, nor the end of the time for the controller's.
        controller.faults.gripper_delay_s = 10.0
        began_ns = clock.now_ns()
        arm.stop()
        assert clock.now_ns() - began_ns < 8_000_000_000
        controller.faults.gripper_delay_s = 0.0
        assert arm.is_stop_confirmed
        assert controller.machine.state == 4
        assert code_of(arm.command, GOAL) == "stopped"


def test_a_reset_that_does_not_arrive_is_stopped():
    with connected_arm(way=ResetWay(timeout_s=0.4)) as (arm, controller, _):
        far = StartPose(position_m=FAR.position_m, gripper_opening=1.0)
        assert code_of(arm.reset, far) == "reset_timeout"
        assert controller.machine.state == 4
        assert code_of(arm.reset, far) == "reset_timeout"


def test_a_stop_that_hangs_is_not_confirmed_and_one_that_is_sent_again_is():
    with connected_arm(has_gripper=False) as (arm, controller, _):
        assert isinstance(arm, ConfirmingArm)
        arm.reset(POSE)
        controller.faults.is_mute = True
        with impatient(arm):
            arm.stop()
        assert not arm.is_stop_confirmed
        assert code_of(arm.command, GOAL) == "stop_not_confirmed"
        assert arm.fault is not None
        assert arm.fault.message == NOT_CONFIRMED
        controller.faults.is_mute = False
        arm.stop()
        assert arm.is_stop_confirmed
        assert code_of(arm.command, GOAL) == "stop_not_confirmed"


def met_by_a_command(arm: XArm, controller: XArmController) -> None:
    controller.faults.error(31)
    code_of(arm.command, GOAL)


def met_by_a_look(arm: XArm, controller: XArmController) -> None:
    controller.faults.is_mute = True
    with impatient(arm, command_timeout_s=0.2):
        arm.state()
    controller.faults.is_mute = False


def met_by_the_gripper(arm: XArm, controller: XArmController) -> None:
    controller.faults.gripper_error(11)
    wait_until(lambda: arm.fault is not None)


@pytest.mark.parametrize("meet", [met_by_a_command, met_by_a_look, met_by_the_gripper])
def test_the_arm_is_stopped_before_the_controller_is_asked_for_its_error(meet, monkeypatch):
    calls: list[str] = []

    def noted(name: str):
        original = getattr(XArmLines, name)

        def call(self: XArmLines, *arguments):
            calls.append(name)
            return original(self, *arguments)

        return call

    has_gripper = meet is met_by_the_gripper
    with connected_arm(has_gripper=has_gripper) as (arm, controller, _):
        arm.reset(POSE)
        for name in ("stop", "error_or"):
            monkeypatch.setattr(XArmLines, name, noted(name))
        meet(arm, controller)
        assert arm.fault is not None
        assert calls == ["stop", "error_or"]


def test_a_controller_that_is_slow_to_name_its_error_gets_the_stop_before_that():
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        controller.machine.received.clear()
        controller.faults.reply_delay_s = 0.1
        controller.faults.gripper_error(11)
        wait_until(lambda: arm.fault is not None)
        with controller.machine.lock:
            asked = [each.register for each in controller.machine.received]
        controller.faults.reply_delay_s = 0.0
        assert asked.index(Register.SET_STATE) < asked.index(Register.GET_ERROR)


def test_a_stop_without_a_connection_to_send_it_on_is_not_confirmed():
    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        controller.faults.refuse_connections()
        with pytest.raises(RobotFault):
            arm.command(GOAL)
        assert not arm.is_stop_confirmed
        with pytest.raises(RobotFault, match="not_connected"):
            arm.clear_fault()
        arm.stop()
        assert not arm.is_stop_confirmed


def test_a_command_between_the_stop_and_its_fault_does_not_take_the_fault_s_name(monkeypatch):
    is_stopped, is_tried = threading.Event(), threading.Event()
    error_or = XArmLines.error_or

    def slow_error_or(lines: XArmLines, fault: RobotFault) -> RobotFault:
        if threading.current_thread().name == "xarm-gripper":
            is_stopped.set()
            is_tried.wait(10.0)
        return error_or(lines, fault)

    with connected_arm() as (arm, controller, _):
        arm.reset(POSE)
        monkeypatch.setattr(XArmLines, "error_or", slow_error_or)
        controller.faults.gripper_error(11)
        assert is_stopped.wait(10.0)
        num_motions = len(controller.machine.motions)
        arm.command(GOAL)
        arm.state()
        is_tried.set()
        num_sent = len(controller.machine.motions) - num_motions
        wait_until(lambda: arm.fault is not None)
        assert (arm.fault.code, num_sent) == ("gripper_error", 0)
