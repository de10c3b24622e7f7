from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from robot.safety import SafetyLimits
from robot.sim.arm_model import HOME_RAD, JOINTS, TOOL_LENGTH_M
from robot.sim.kinematics import (
    MAX_JOINT_SPEED_RAD_S,
    MAX_TOOL_SPEED_M_S,
    TOOL_DOWN,
    ToolKinematics,
    roll_pitch_yaw,
)


@pytest.fixture(scope="module")
def kinematics() -> ToolKinematics:
    return ToolKinematics()


def test_zero_pose_is_the_makers(kinematics):
    tool_m, rotation = kinematics.pose(np.zeros(7))
    flange_m = tool_m - rotation @ np.array([0.0, 0.0, TOOL_LENGTH_M])
    assert flange_m == pytest.approx((0.206, 0.0, 0.1205), abs=1e-9)
    assert rotation == pytest.approx(TOOL_DOWN, abs=1e-9)


def test_home_pose_is_the_common_models(kinematics):
    tool_m, rotation = kinematics.pose(np.array(HOME_RAD))
    assert tool_m == pytest.approx((0.400, 0.0, 0.228), abs=3e-4)
    assert rotation == pytest.approx(TOOL_DOWN, abs=1e-3)


def test_every_corner_of_the_box_is_reached_with_the_tool_down(kinematics):
    limits = SafetyLimits()
    corners = itertools.product(*zip(limits.box_low_m, limits.box_high_m, strict=True))
    for corner in corners:
        joints = kinematics.solve(np.array(corner))
        tool_m, rotation = kinematics.pose(joints)
        assert tool_m == pytest.approx(corner, abs=1e-3)
        assert rotation == pytest.approx(TOOL_DOWN, abs=2e-3)
        for angle, joint in zip(joints, JOINTS, strict=True):
            assert joint.low_rad <= angle <= joint.high_rad


def test_out_of_reach_is_said(kinematics):
    with pytest.raises(ValueError, match="cannot reach"):
        kinematics.solve(np.array([1.2, 0.0, 0.2]))


def test_a_step_comes_nearer_and_keeps_its_speed_limits(kinematics):
    joints = kinematics.solve(np.array([0.30, -0.10, 0.10]))
    goal_m = np.array([0.50, 0.12, 0.25])
    duration_s = 0.01
    place_m, _ = kinematics.pose(joints)
    while np.linalg.norm(goal_m - place_m) > 1e-3:
        moved = kinematics.step(joints, goal_m, duration_s)
        new_m, _ = kinematics.pose(moved)
        assert np.linalg.norm(goal_m - new_m) < np.linalg.norm(goal_m - place_m)
        assert np.linalg.norm(new_m - place_m) <= 1.05 * MAX_TOOL_SPEED_M_S * duration_s
        assert np.abs(moved - joints).max() <= MAX_JOINT_SPEED_RAD_S * duration_s + 1e-12
        joints, place_m = moved, new_m


def test_a_tilted_tool_is_turned_down_again(kinematics):
    joints = np.array(HOME_RAD) + np.array([0.0, 0.0, 0.0, 0.0, 0.2, 0.3, 0.4])
    goal_m, _ = kinematics.pose(np.array(HOME_RAD))
    for _ in range(100):
        joints = kinematics.step(joints, goal_m, 0.01)
    place_m, rotation = kinematics.pose(joints)
    assert place_m == pytest.approx(goal_m, abs=1e-3)
    assert rotation == pytest.approx(TOOL_DOWN, abs=5e-3)


@pytest.mark.parametrize("angles", [(0.3, -0.2, 0.5), (3.0, 0.1, -2.0), (-1.0, 1.2, 0.0)])
def test_roll_pitch_yaw_undo_their_rotation(angles):
    roll, pitch, yaw = angles
    about_x = np.array(
        [[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]]
    )
    about_y = np.array(
        [[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]]
    )
    about_z = np.array(
        [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]
    )
    assert roll_pitch_yaw(about_z @ about_y @ about_x) == pytest.approx(angles)


def test_tool_down_is_roll_pi():
    roll, pitch, yaw = roll_pitch_yaw(TOOL_DOWN)
    assert abs(roll) == pytest.approx(math.pi)
    assert (pitch, yaw) == pytest.approx((0.0, 0.0))
