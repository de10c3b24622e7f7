"""What the driver sends: places, speeds and the order of a reset, and the gripper beside it."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

from robot.clock import MonotonicClock, SimulatedClock
from robot.doubles.xarm_frames import Register
from robot.doubles.xarm_physics import MujocoBody
from robot.doubles.xarm_server import XArmController
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.sim.config import SimConfig
from robot.xarm import XArm
from robot.xarm_reports import MotionReports
from robot.xarm_reset import ResetWay
from robot.xarm_units import to_pulses
from tests.robot.xarm_rig import config_for, connected_arm

START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=1.0)
MS = 1_000_000


def target(x=0.40, y=0.0, z=0.12, opening=1.0) -> ToolTarget:
    return ToolTarget(position_m=(x, y, z), gripper_opening=opening)


def test_targets_arrive_in_millimetres_tool_down_at_the_configured_speed():
    with connected_arm(speed_m_s=0.2, acceleration_m_s2=1.5) as (arm, controller, _):
        arm.reset(START)
        num_resets = len(controller.machine.motions)
        rng = np.random.default_rng(0)
        places = [tuple(rng.uniform((0.25, -0.15, 0.02), (0.55, 0.15, 0.3))) for _ in range(50)]
        for place in places:
            arm.command(ToolTarget(position_m=place, gripper_opening=1.0))
        frames = list(controller.machine.motions)[num_resets:]
        assert len(frames) == len(places)
        for frame, place in zip(frames, places, strict=True):
            assert frame.register == Register.MOVE_LINE
            assert frame.is_taken
            assert frame.mode == 7
            assert frame.position_m == pytest.approx(place, abs=1e-6)
            assert frame.rotation_rad == pytest.approx((math.pi, 0.0, 0.0), abs=1e-6)
            assert frame.speed_m_s == pytest.approx(0.2)
            assert frame.acceleration_m_s2 == pytest.approx(1.5)


def test_a_reset_crosses_high_and_slowly():
    with connected_arm(way=ResetWay(speed_m_s=0.1, acceleration_m_s2=0.5)) as (arm, controller, _):
        arm.reset(START)
        arm.reset(StartPose(position_m=(0.30, 0.10, 0.05), gripper_opening=1.0))
        arm.reset(StartPose(position_m=(0.50, -0.10, 0.05), gripper_opening=1.0))
        frames = list(controller.machine.motions)
        assert frames[-3].position_m == pytest.approx((0.30, 0.10, 0.25), abs=1e-4)
        assert frames[-2].position_m == pytest.approx((0.50, -0.10, 0.25), abs=1e-4)
        assert frames[-1].position_m == pytest.approx((0.50, -0.10, 0.05), abs=1e-4)
        assert {round(frame.speed_m_s, 6) for frame in frames} == {0.1}
        assert {round(frame.acceleration_m_s2, 6) for frame in frames} == {0.5}
        assert np.allclose(arm.state().position_m, (0.50, -0.10, 0.05), atol=1e-4)


def test_the_gripper_is_told_only_what_is_new():
    with connected_arm() as (arm, controller, _):
        arm.reset(START)
        controller.machine.gripper.targets.clear()
        for _ in range(20):
            arm.command(target(opening=0.5))
        arm.reset(StartPose(position_m=START.position_m, gripper_opening=0.5))
        assert controller.machine.gripper.targets == [to_pulses(0.5)]
        assert arm.state().gripper_opening == pytest.approx(0.5, abs=0.02)


def test_a_slow_gripper_holds_nothing_up():
    clock = MonotonicClock()
    with connected_arm(clock) as (arm, controller, _):
        arm.reset(StartPose(position_m=(0.40, 0.0, 0.20)))
        controller.faults.gripper_delay_s = 10.0
        began_ns = clock.now_ns()
        for k in range(10):
            arm.command(target(z=0.2, opening=0.1 * k))
            arm.state()
        assert clock.now_ns() - began_ns < 8000 * MS
        assert arm.fault is None
        controller.faults.gripper_delay_s = 0.0


def test_what_keeps_the_fingers_apart_is_stuck_until_they_open():
    with connected_arm() as (arm, controller, clock):
        arm.reset(START)
        controller.faults.put_object(0.4)
        held = StartPose(position_m=START.position_m, gripper_opening=0.0)
        arm.reset(held)
        state = arm.state()
        assert state.is_gripper_stuck
        assert state.gripper_opening == pytest.approx(0.4, abs=0.01)
        arm.reset(START)
        assert not arm.state().is_gripper_stuck
        assert arm.state().gripper_opening == pytest.approx(1.0, abs=0.02)


def test_a_closed_gripper_that_was_told_to_close_is_not_stuck():
    with connected_arm() as (arm, _, clock):
        arm.reset(StartPose(position_m=START.position_m, gripper_opening=0.0))
        clock.advance(1_000_000_000)
        arm.reset(StartPose(position_m=START.position_m, gripper_opening=0.0))
        assert not arm.state().is_gripper_stuck


def test_an_error_of_the_gripper_stops_the_arm_until_cleared():
    with connected_arm() as (arm, controller, _):
        arm.reset(START)
        controller.faults.gripper_error(11)
        with pytest.raises(RobotFault, match="gripper_error"):
            arm.reset(START)
        assert arm.fault is not None
        assert arm.fault.code == "gripper_error"
        assert controller.machine.state == 4
        arm.clear_fault()
        assert controller.machine.gripper.error == 0
        arm.reset(START)


def test_without_a_gripper_none_is_asked():
    with connected_arm(has_gripper=False) as (arm, controller, _):
        arm.reset(START)
        arm.command(target(opening=0.3))
        state = arm.state()
        assert (state.gripper_opening, state.is_gripper_stuck) == (0.3, False)
        registers = {received.register for received in controller.machine.received}
        assert Register.RS485_RTU not in registers


def test_in_real_time_the_state_comes_from_reports_and_is_fresh():
    clock = MonotonicClock()
    with connected_arm(clock) as (arm, controller, _):
        arm.reset(StartPose(position_m=(0.40, 0.0, 0.20)))
        controller.machine.received.clear()
        arm.command(target(0.50, 0.0, 0.20))
        truth_m: list[tuple[int, float]] = []

        def note_truth() -> None:
            with controller.machine.lock:
                controller.machine.advance(now_ns := clock.now_ns())
                truth_m.append((now_ns, controller.machine.body.pose()[0][0]))

        times = []
        for _ in range(60):
            clock.sleep_until_ns(clock.now_ns() + 10 * MS)
            note_truth()
            asked_ns = clock.now_ns()
            state = arm.state()
            note_truth()
            times.append(state.t_ns)
            assert asked_ns - 30 * MS <= state.t_ns <= clock.now_ns()
            # It moves one way only: where it says it is, it was, and not long before that moment.
            before = [x for t_ns, x in truth_m if t_ns <= state.t_ns - 100 * MS]
            assert max(before, default=0.40) - 1e-4 <= state.position_m[0]
            assert state.position_m[0] <= truth_m[-1][1] + 1e-4
        assert times == sorted(times)
        assert state.position_m[0] > 0.45
        num_asked = [r.register for r in controller.machine.received].count(Register.GET_TCP_POSE)
        assert num_asked < len(times)


class TestMotionReports:
    def take(self, reports: MotionReports, x_mm: float = 400.0) -> None:
        reports.take({"cartesian": [x_mm, 0.0, 200.0, math.pi, 0.0, 0.0], "state": 2})

    def test_a_report_on_time_is_dated_by_its_arrival(self):
        clock = SimulatedClock()
        reports = MotionReports(clock, 0.03)
        for k in range(3):
            self.take(reports, 400.0 + k)
            clock.advance(10 * MS)
        fresh = reports.fresh()
        assert fresh is not None
        assert fresh.t_ns == 20 * MS
        assert fresh.position_m == pytest.approx((0.402, 0.0, 0.2))
        clock.advance(21 * MS)
        assert reports.fresh() is None

    @pytest.mark.parametrize("gap_ms", [0, 2, 31, 500])
    def test_a_report_after_a_gap_or_in_a_burst_is_not_used(self, gap_ms):
        clock = SimulatedClock()
        reports = MotionReports(clock, 0.03)
        self.take(reports)
        assert reports.fresh() is None
        clock.advance(10 * MS)
        self.take(reports)
        assert reports.fresh() is not None
        clock.advance(gap_ms * MS)
        self.take(reports)
        assert reports.fresh() is None
        clock.advance(10 * MS)
        self.take(reports)
        assert reports.fresh() is not None


def test_the_driver_picks_an_object_up_in_the_simulated_workspace():
    clock = SimulatedClock()
    body = MujocoBody(SimConfig(task="pick"), (0.40, 0.0, 0.20), 0)
    body.world.place_body("object", np.array([0.42, 0.05, 0.03]))
    with XArmController(body, clock) as controller:
        arm = XArm(config_for(controller), clock)
        arm.connect()
        arm.reset(StartPose(position_m=(0.42, 0.05, 0.12), gripper_opening=1.0))
        arm.reset(StartPose(position_m=(0.42, 0.05, 0.035), gripper_opening=1.0))
        arm.reset(StartPose(position_m=(0.42, 0.05, 0.035), gripper_opening=0.0))
        assert arm.state().is_gripper_stuck
        arm.command(target(0.42, 0.05, 0.20, opening=0.0))
        for _ in range(200):
            clock.advance(10 * MS)
            arm.state()
        assert arm.fault is None
        with controller.machine.lock:
            assert body.world.is_grasped("object")
            assert body.world.body_position("object")[2] > 0.15
        arm.close()


def test_a_stop_from_another_thread_ends_a_reset():
    with connected_arm(MonotonicClock(), ResetWay(speed_m_s=0.02)) as (arm, controller, _):
        num_motions = len(controller.machine.motions)
        caught: list[str] = []

        def reset() -> None:
            with pytest.raises(RobotFault) as fault:
                arm.reset(StartPose(position_m=(0.50, 0.10, 0.05)))
            caught.append(fault.value.code)

        resetting = threading.Thread(target=reset)
        resetting.start()
        deadline = time.monotonic() + 20
        while len(controller.machine.motions) == num_motions:
            assert time.monotonic() < deadline
        arm.stop()
        resetting.join(20.0)
        assert caught == ["stopped"]
        assert controller.machine.state == 4
