"""A real arm's workspace: where trials begin, and that its spec is the simulated one's."""

from __future__ import annotations

import numpy as np
import pytest

from robot.camera_address import CameraAddress, parse_camera
from robot.cell import CellConfig, CellTask, gate_limits
from robot.guard_limits import GuardLimits
from robot.interfaces import StartPose
from robot.realsense_config import RealSenseConfig
from robot.sim.config import EVAL_POSITIONS, SimConfig
from robot.sim.env import make_sim_spec

LIMITS = GuardLimits(
    box_low_m=(0.25, -0.15, 0.015),
    box_high_m=(0.55, 0.15, 0.315),
    start=StartPose(position_m=(0.4, 0.0, 0.07), gripper_opening=0.4),
    max_speed_m_s=0.25,
)


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_the_spec_is_that_of_the_simulated_robot(task) -> None:
    simulated = make_sim_spec(SimConfig(task=task))
    assert CellConfig(task=task).spec(["front"]).difference(simulated) == []
    assert CellConfig(task=task, image_size=48).spec(["front"]).difference(simulated) != []


def test_starts_are_drawn_from_the_seed_inside_the_box_at_the_start_s_height() -> None:
    task = CellTask(LIMITS, 0.06)
    starts = [task.begin(seed, None) for seed in range(200)]
    places = np.array([start.position_m for start in starts])
    assert np.all(places[:, :2] >= np.array([0.31, -0.09]))
    assert np.all(places[:, :2] <= np.array([0.49, 0.09]))
    assert np.ptp(places[:, :2], axis=0).min() > 0.15
    assert {(p.position_m[2], p.gripper_opening) for p in starts} == {(0.07, 0.4)}
    assert task.begin(7, None) == starts[7]
    assert task.truth() is None


def test_fixed_positions_are_the_simulated_evaluation_s() -> None:
    task = CellTask(LIMITS, 0.06)
    for index, (_, start) in enumerate(EVAL_POSITIONS):
        x, y, _ = task.begin(seed=index, position_index=index).position_m
        assert (x, y) == pytest.approx((0.31 + start[0] * 0.18, -0.09 + start[1] * 0.18))


def test_a_margin_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="start_margin_m 0.16 leaves nothing"):
        CellTask(LIMITS, 0.16)
    with pytest.raises(ValueError, match="start_margin_m"):
        CellConfig(start_margin_m=-0.1)


def test_images_larger_than_the_stream_s_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size 128 is more than the stream's 640x100"):
        CellConfig(image_size=128, stream=RealSenseConfig(height=100))


def test_the_gate_goes_as_far_as_the_guard_lets_it_and_no_further() -> None:
    assert LIMITS.excess_of(0.1, gate_limits(LIMITS)) == []
    gate = gate_limits(LIMITS)
    for name in ("box_low_m", "box_high_m", "max_step_m", "max_speed_m_s", "max_lag_m"):
        assert getattr(gate, name) == getattr(LIMITS, name)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("923322071234=front", CameraAddress(name="front", serial="923322071234")),
        ("world:127.0.0.1:15030=wrist", CameraAddress(name="wrist", world_port=15030)),
        ("world:localhost:1=front", CameraAddress(name="front", world_port=1)),
    ],
)
def test_cameras_are_named_with_where_they_are(text: str, address: CameraAddress) -> None:
    assert parse_camera(text) == address


def test_a_recording_s_path_may_hold_an_equals_sign(tmp_path) -> None:
    path = tmp_path / "day=1.db3"
    assert parse_camera(f"{path}=front") == CameraAddress(name="front", recording=path)


@pytest.mark.parametrize(
    "text",
    ["923322071234", "=front", "9233=", "9233=the front", "some/file.mp4=front"]
    + ["world:10.0.0.1:15030=front", "world:127.0.0.1=front", "world:127.0.0.1:0=front"],
)
def test_what_is_no_camera_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="camera"):
        parse_camera(text)
