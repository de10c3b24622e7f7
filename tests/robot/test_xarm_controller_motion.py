"""How the double's tool moves: speed, acceleration, continuity, and the fingers."""

from __future__ import annotations

import numpy as np
import pytest

from robot.doubles.xarm_motion import STEP_NS, Fingers, KinematicBody, SetPoint
from robot.doubles.xarm_physics import MujocoBody
from robot.sim.config import SimConfig

STEP_S = STEP_NS * 1e-9
HOME = (0.40, 0.0, 0.20)


def track(point: SetPoint, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    places, speeds = [point.position_m.copy()], [point.velocity_m_s.copy()]
    for _ in range(num_steps):
        point.step()
        places.append(point.position_m.copy())
        speeds.append(point.velocity_m_s.copy())
    return np.array(places), np.array(speeds)


def test_a_move_is_straight_and_keeps_its_speed_and_acceleration():
    point = SetPoint(np.array(HOME))
    goal = np.array([0.52, 0.06, 0.10])
    point.move_to(goal, 0.2, 1.0)
    places, speeds = track(point, 1000)
    assert np.allclose(places[-1], goal, atol=1e-9)
    assert not point.is_moving
    size = np.linalg.norm(speeds, axis=1)
    assert size.max() == pytest.approx(0.2, rel=1e-6)
    assert np.linalg.norm(np.diff(speeds, axis=0), axis=1).max() <= 1.0 * STEP_S * (1 + 1e-9)
    along = (goal - HOME) / np.linalg.norm(goal - HOME)
    off = (places - HOME) - np.outer((places - HOME) @ along, along)
    assert np.linalg.norm(off, axis=1).max() < 1e-9
    assert ((places - HOME) @ along).max() < np.linalg.norm(goal - HOME) + 1e-5


def test_a_move_takes_as_long_as_a_trapezoid():
    point = SetPoint(np.zeros(3))
    point.move_to(np.array([0.2, 0.0, 0.0]), 0.25, 2.0)
    places, _ = track(point, 1000)
    arrived_s = np.argmax(places[:, 0] > 0.1999) * STEP_S
    assert arrived_s == pytest.approx(0.2 / 0.25 + 0.25 / 2.0, abs=0.05)


def test_a_new_target_bends_the_path_without_a_jump_of_velocity():
    point = SetPoint(np.array(HOME))
    point.move_to(np.array([0.5, 0.0, 0.2]), 0.25, 2.0)
    track(point, 100)
    before = point.velocity_m_s.copy()
    assert before[0] == pytest.approx(0.25)
    goal = np.array([0.40, 0.10, 0.20])
    point.move_to(goal, 0.25, 2.0)
    places, speeds = track(point, 2000)
    assert np.linalg.norm(np.diff(speeds, axis=0), axis=1).max() <= 2.0 * STEP_S * (1 + 1e-9)
    assert np.allclose(places[-1], goal, atol=1e-9)


def test_halting_brakes_within_its_way_and_stays():
    body = KinematicBody(HOME, 0)
    body.move_to(np.array([0.55, 0.0, 0.2]), 0.25, 2.0)
    body.advance(400_000_000)
    there = body.pose()[0]
    body.halt(10.0)
    body.advance(3_000_000_000)
    assert 0 < body.pose()[0][0] - there[0] < 0.25**2 / (2 * 10.0) + 0.0006
    assert not body.is_moving


def test_asking_more_often_changes_nothing():
    ends = []
    for pause_ns in (2_000_000, 14_000_000, 700_000_000):
        body = KinematicBody(HOME, 0)
        body.move_to(np.array([0.45, 0.05, 0.2]), 0.25, 2.0)
        for t_ns in range(0, 700_000_001, pause_ns):
            body.advance(t_ns)
        ends.append(body.pose()[0])
    assert np.array_equal(ends[0], ends[1])
    assert np.array_equal(ends[0], ends[2])


def test_the_joints_of_a_report_carry_the_tool_where_the_report_says():
    from robot.sim.kinematics import ToolKinematics

    body = KinematicBody(HOME, 0)
    body.move_to(np.array([0.45, 0.05, 0.15]), 0.25, 2.0)
    for t_ns in range(0, 1_000_000_000, 10_000_000):
        body.advance(t_ns)
        place, _ = ToolKinematics().pose(body.joints_rad())
        assert np.linalg.norm(place - body.pose()[0]) < 2e-3


def test_fingers_move_at_their_speed_and_stop_at_what_they_hold():
    fingers = Fingers(1.0)
    fingers.block(0.4)
    fingers.move_to(0.0, 2.0)
    for _ in range(round(0.1 / STEP_S)):
        fingers.step()
    assert fingers.opening == pytest.approx(0.8)
    for _ in range(1000):
        fingers.step()
    assert fingers.opening == pytest.approx(0.4)
    fingers.move_to(0.9, 2.0)
    for _ in range(1000):
        fingers.step()
    assert fingers.opening == pytest.approx(0.9)


def test_an_object_put_into_closed_fingers_does_not_push_them_open():
    fingers = Fingers(0.2)
    fingers.block(0.6)
    fingers.move_to(0.0, 2.0)
    fingers.step()
    assert fingers.opening == pytest.approx(0.2)


def test_the_physical_body_goes_the_same_way_with_the_lag_of_its_servos():
    physical = MujocoBody(SimConfig(task="pick"), HOME, 0)
    plain = KinematicBody(HOME, 0)
    gaps = []
    for body in (physical, plain):
        body.move_to(np.array([0.48, 0.05, 0.12]), 0.25, 2.0)
    for t_ns in range(0, 1_500_000_001, 10_000_000):
        physical.advance(t_ns)
        plain.advance(t_ns)
        gaps.append(float(np.linalg.norm(physical.pose()[0] - plain.pose()[0])))
    assert max(gaps) < 0.02
    assert gaps[-1] < 1.5e-3
    assert np.abs(np.remainder(physical.pose()[1][0], 2 * np.pi) - np.pi) < 0.02


def test_the_physical_body_grips_what_lies_there():
    body = MujocoBody(SimConfig(task="pick"), (0.40, 0.0, 0.12), 0)
    body.world.place_body("object", np.array([0.40, 0.0, 0.03]))
    body.move_to(np.array([0.40, 0.0, 0.035]), 0.25, 2.0)
    body.advance(1_000_000_000)
    body.move_gripper(0.0, 1.0)
    body.advance(2_000_000_000)
    assert body.gripper_opening() > 0.3
    assert body.world.is_grasped("object")
    with pytest.raises(ValueError, match="between its fingers"):
        body.block_gripper(0.5)
