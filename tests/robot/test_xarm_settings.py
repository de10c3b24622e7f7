"""No motion before the controller is what the driver was told it is, and has what it was told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.doubles.xarm_frames import Register
from robot.doubles.xarm_motion import KinematicBody
from robot.doubles.xarm_record import Identity
from robot.doubles.xarm_server import XArmController
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.xarm import XArm
from robot.xarm_inspection import inspect_arm
from robot.xarm_settings import check_idle, enable
from tests.robot.xarm_rig import config_for, connected_arm, make_controller

POSE = StartPose(position_m=(0.40, 0.0, 0.20), gripper_opening=1.0)


def fault_of_connecting(arm: XArm) -> RobotFault:
    with pytest.raises(RobotFault) as caught:
        arm.connect()
    return caught.value


def test_connecting_sets_and_reads_back_everything_and_moves_nothing():
    with connected_arm(collision_sensitivity=4, speed_m_s=0.2) as (_, controller, _):
        machine = controller.machine
        assert len(machine.motions) == 0
        settings = machine.settings
        assert settings.boundary_mm == (580, 220, 180, -180, 345, -10)
        assert settings.is_fence_on
        assert settings.is_reduced
        assert settings.reduced_speed_mm_s == pytest.approx(200.0)
        assert settings.collision_sensitivity == 4
        assert settings.tcp_offset == pytest.approx((0, 0, 172, 0, 0, 0))
        assert settings.tcp_load == pytest.approx((0.82, 0, 0, 48))
        registers = [received.register for received in machine.received]
        assert registers.index(Register.GET_REDUCED_STATE) > registers.index(Register.SET_FENCE_ON)
        assert (machine.mode, machine.state, machine.is_enabled) == (7, 2, True)


@pytest.mark.parametrize(
    ("register", "field"),
    [
        (Register.SET_LIMIT_XYZ, "fence "),
        (Register.SET_REDUCED_TRSV, "speed_m_s "),
        (Register.SET_REDUCED_MODE, "reduced mode "),
        (Register.SET_FENCE_ON, "fence mode "),
        (Register.SET_COLLIS_SENS, "collision_sensitivity "),
        (Register.SET_LOAD_PARAM, "tool_mass_kg "),
        (Register.SET_TCP_OFFSET, "tool_offset_m "),
    ],
)
def test_a_setting_that_is_not_kept_is_named_and_nothing_moves(register, field):
    clock = SimulatedClock()
    with make_controller(clock) as controller:
        controller.machine.settings.ignored = {register}
        arm = XArm(config_for(controller, collision_sensitivity=4), clock)
        fault = fault_of_connecting(arm)
        assert fault.code == "settings_mismatch"
        assert fault.message.startswith(field)
        assert arm.fault is not None
        for attempt in (
            lambda: arm.reset(POSE),
            lambda: arm.command(ToolTarget(position_m=POSE.position_m, gripper_opening=1.0)),
        ):
            with pytest.raises(RobotFault, match="settings_mismatch"):
                attempt()
        assert controller.machine.state == 4
        assert len(controller.machine.motions) == 0
        controller.machine.settings.ignored = set()
        arm.clear_fault()
        arm.reset(POSE)
        assert len(controller.machine.motions) > 0
        arm.close()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"base_offset": (0.0, 0.0, 100.0, 0.0, 0.0, 0.0)}, "base offset "),
        ({"base_offset": (0.0, 0.0, 0.0, 0.0, 0.05, 0.0)}, "base rotation "),
        ({"gravity": (0.0, 0.0, 1.0)}, "gravity "),
        ({"is_simulation": True}, "simulated arm "),
        ({"is_rebound_on": True}, "collision rebound "),
        ({"tcp_offset": (0.0, 0.0, 172.0, 0.3, 0.0, 0.0)}, "tool rotation "),
    ],
)
def test_what_a_person_set_with_the_vendor_s_program_is_named_and_nothing_moves(changed, field):
    clock = SimulatedClock()
    with make_controller(clock) as controller:
        settings = controller.machine.settings
        settings.ignored = {Register.SET_TCP_OFFSET} if "tcp_offset" in changed else set()
        before = {name: getattr(settings, name) for name in changed}
        for name, value in changed.items():
            setattr(settings, name, value)
        arm = XArm(config_for(controller), clock)
        fault = fault_of_connecting(arm)
        assert fault.code == "settings_mismatch"
        assert fault.message.startswith(field)
        assert len(controller.machine.motions) == 0
        settings.ignored = set()
        for name, value in before.items():
            setattr(settings, name, value)
        arm.clear_fault()
        arm.reset(POSE)
        arm.close()


@pytest.mark.parametrize("after_ms", [0, 1, 20, 150])
def test_a_controller_that_begins_anew_with_each_change_of_the_tool_is_waited_for(after_ms):
    clock = MonotonicClock()
    # With reports as rarely as a real one sends them: two are waited for after the last change.
    with make_controller(clock, slow_every=20) as controller:
        controller.machine.begins_anew_after_ns = after_ms * 1_000_000
        arm = XArm(config_for(controller), clock)
        arm.connect()
        assert (controller.machine.mode, controller.machine.state) == (7, 2)
        arm.reset(POSE)
        arm.close()


def test_an_arm_that_another_program_drives_is_left_alone():
    clock = MonotonicClock()
    with make_controller(clock) as controller:
        machine = controller.machine
        with machine.lock:
            machine.is_enabled, machine.state = True, 2
            machine.body.move_at(np.array([0.0, 0.0, 0.001]), 1.0)
        arm = XArm(config_for(controller), clock)
        assert fault_of_connecting(arm).code == "arm_in_use"
        arm.close()
        with machine.lock:
            machine.advance(clock.now_ns())
            assert machine.body.speed_m_s > 0
            assert Register.SET_STATE not in {received.register for received in machine.received}
            machine.body.halt(1.0)
        arm = XArm(config_for(controller), clock)
        arm.connect()
        arm.close()


def test_an_arm_that_ends_its_last_motion_is_waited_for():
    api = SlowApi([1, 1, 1, 2])
    check_idle(api)
    assert api.states == [2]
    assert api.calls == []


@pytest.mark.parametrize("offset_mm", [0.0, 172.0, 300.0])
def test_an_inspection_knows_where_our_tool_is_whatever_offset_the_controller_has(offset_mm):
    clock = SimulatedClock()
    for height_m, is_outside in ((0.20, False), (-0.05, True), (0.40, True)):
        with make_controller(clock) as controller:
            controller.machine.settings.tcp_offset = (0.0, 0.0, offset_mm, 0.0, 0.0, 0.0)
            controller.machine.body = KinematicBody((0.40, 0.0, height_m), clock.now_ns())
            seen = inspect_arm(config_for(controller))
            assert (seen.outside is not None) is is_outside
            assert all(setting.is_kept for setting in seen.mount)


@pytest.mark.parametrize(
    ("identity", "code", "words"),
    [
        (Identity(firmware="v1.10.9"), "firmware_too_old", ("1.11.0", "1.10.9", "update")),
        (Identity(axis=6, arm_type=6), "wrong_arm", ("7 joints", "with 6")),
    ],
)
def test_a_controller_that_cannot_do_it_is_refused(identity, code, words):
    clock = SimulatedClock()
    with make_controller(clock, identity) as controller:
        arm = XArm(config_for(controller), clock)
        fault = fault_of_connecting(arm)
        assert fault.code == code
        assert all(word in fault.message for word in words)
        assert not controller.machine.is_enabled
        arm.close()


class SlowApi:
    """A controller that takes a while to be ready, as a real one may.

    Args:
        states: What it says of its state, one answer after the other; the last one for good.
        error: Its error.
    """

    def __init__(self, states: Sequence[int], error: int = 0) -> None:
        self.states = list(states)
        self.error = error
        self.calls: list[tuple[str, int]] = []

    def motion_enable(self, *, enable: bool) -> int:
        self.calls.append(("enable", int(enable)))
        return 0

    def set_mode(self, mode: int) -> int:
        self.calls.append(("mode", mode))
        return 0

    def set_state(self, state: int) -> int:
        self.calls.append(("state", state))
        return 0

    def get_state(self) -> tuple[int, int]:
        return 0, self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def get_err_warn_code(self) -> tuple[int, list[int]]:
        return 0, [self.error, 0]


def test_a_controller_that_takes_a_moment_to_be_ready_is_waited_for():
    api = SlowApi([5, 4, 5, 2])
    enable(api, 7)
    assert api.states == [2]


def test_what_another_program_left_to_do_is_stopped_before_the_motors_are_enabled():
    api = SlowApi([2])
    enable(api, 7)
    assert api.calls == [("state", 4), ("enable", 1), ("mode", 7), ("state", 0)]


def test_a_controller_that_does_not_get_ready_is_a_fault_and_an_error_is_told_at_once():
    with pytest.raises(RobotFault, match="stays in state 5"):
        enable(SlowApi([5]), 7)
    failing = SlowApi([4, 4, 2], error=24)
    with pytest.raises(RobotFault, match="C24"):
        enable(failing, 7)
    assert failing.states == [4, 2]


def test_newer_firmware_is_taken():
    clock = SimulatedClock()
    with make_controller(clock, Identity(firmware="v2.6.1")) as controller:
        arm = XArm(config_for(controller), clock)
        arm.connect()
        assert controller.machine.is_enabled
        arm.reset(POSE)
        assert arm.fault is None
        assert len(controller.machine.motions) > 0
        arm.close()


def test_a_tool_outside_the_fence_is_told_before_the_fence_is_there():
    clock = SimulatedClock()
    with XArmController(KinematicBody((0.40, 0.25, 0.20), 0), clock) as controller:
        arm = XArm(config_for(controller), clock)
        fault = fault_of_connecting(arm)
        assert fault.code == "outside_fence"
        assert "0.25" in fault.message
        assert not controller.machine.settings.is_fence_on
        assert controller.machine.error == 0
        arm.close()


def test_an_error_from_before_is_a_persons_to_clear():
    clock = SimulatedClock()
    with make_controller(clock) as controller:
        controller.faults.error(31)
        arm = XArm(config_for(controller), clock)
        assert fault_of_connecting(arm).code == "controller_c31"
        arm.connect()
        assert controller.machine.error == 31
        assert arm.fault is not None
        arm.clear_fault()
        arm.reset(POSE)
        arm.close()


def test_a_controller_that_forgot_its_settings_is_told_them_again_when_cleared():
    with connected_arm() as (arm, controller, _):
        machine = controller.machine
        with machine.lock:
            machine.settings.is_fence_on = machine.settings.is_reduced = False
        controller.faults.stop_from_outside()
        arm.state()
        assert arm.fault is not None
        arm.clear_fault()
        assert machine.settings.is_fence_on
        assert machine.settings.is_reduced


def test_no_controller_is_not_latched_and_may_be_tried_again():
    clock = SimulatedClock()
    with make_controller(clock) as controller:
        controller.faults.refuse_connections()
        arm = XArm(config_for(controller), clock)
        fault = fault_of_connecting(arm)
        assert fault.code == "not_connected"
        assert "127.0.0.1" in fault.message
        assert arm.fault is None
        controller.faults.accept_connections()
        arm.connect()
        arm.reset(POSE)
        arm.close()


def test_a_controller_that_does_not_answer_is_given_up():
    clock = SimulatedClock()
    with make_controller(clock) as controller:
        controller.faults.is_mute = True
        arm = XArm(config_for(controller, connect_timeout_s=0.3), clock)
        fault = fault_of_connecting(arm)
        assert fault.code == "not_connected"
        assert "does not answer" in fault.message
