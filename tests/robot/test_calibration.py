from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.calibrating import Mark, check_marks, fit
from robot.calibration import Calibration
from robot.calibration_views import Grid, View, visit
from robot.camera_model import CalibrationError, CameraModel, Intrinsics, fit_camera
from robot.detectors import draw
from robot.interfaces import RobotFault, StartPose
from robot.sim.arm import SimArm
from robot.sim.config import SimConfig
from services.calibration_bench import simulated
from services.commands import calibrate as command
from services.commands.calibrate import CalibrateConfig, calibrate
from services.config import ConfigError, build_file
from services.config_text import to_toml
from services.process import CannotStart
from tests.robot.doubles import make_blind_env

# Above the table, looking steeply down at it, turned a little.
CAMERA = CameraModel(
    width_px=320,
    height_px=240,
    focal_px=(300.0, 300.0),
    centre_px=(159.5, 119.5),
    rotation_rad=(1.9, 1.8, -0.6),
    translation_m=(0.02, -0.2, 0.9),
)
LENS = Intrinsics(focal_px=CAMERA.focal_px, centre_px=CAMERA.centre_px)


def grid_points(num=(4, 4, 3)) -> np.ndarray:
    grid = Grid(num=num)
    return np.array(grid.points_m((0.25, -0.15, 0.015), (0.55, 0.15, 0.315)))


def drawn_by_hand(point_m: np.ndarray) -> np.ndarray:
    """The pinhole written out, for a rotation vector: Rodrigues' formula."""
    vector = np.array(CAMERA.rotation_rad)
    angle = float(np.linalg.norm(vector))
    axis = vector / angle
    turned = (
        point_m * np.cos(angle)
        + np.cross(axis, point_m) * np.sin(angle)
        + axis * (axis @ point_m) * (1 - np.cos(angle))
    )
    x, y, z = turned + np.array(CAMERA.translation_m)
    return np.array([300.0 * x / z + 159.5, 300.0 * y / z + 119.5])


def test_the_camera_draws_as_a_pinhole_does():
    points_m = grid_points()
    expected = np.array([drawn_by_hand(point_m) for point_m in points_m])
    assert CAMERA.project(points_m) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("distortion", [(0.0,) * 5, (0.05, -0.02, 0.001, -0.001, 0.0)])
def test_pixels_go_back_to_where_they_came_from(distortion):
    camera = replace(CAMERA, distortion=distortion)
    points_m = grid_points((5, 5, 1))
    height_m = float(points_m[0, 2])
    back_m = camera.on_plane(camera.project(points_m), height_m)
    assert back_m == pytest.approx(points_m, abs=2e-5)


def test_the_height_over_a_known_place_is_found():
    point_m = np.array([0.41, 0.03, 0.17])
    pixel = CAMERA.project(point_m[None])[0]
    height_m, miss_m = CAMERA.height_above(pixel, 0.41, 0.03)
    assert height_m == pytest.approx(0.17, abs=1e-6)
    assert miss_m == pytest.approx(0.0, abs=1e-6)
    assert CAMERA.height_above(pixel, 0.41, 0.05)[1] > 0.01


def test_a_pixel_above_the_horizon_is_no_place_on_the_table():
    level = replace(CAMERA, rotation_rad=(np.pi / 2, 0.0, 0.0))
    above, below = np.array([[160.0, 10.0]]), np.array([[160.0, 230.0]])
    assert (level.looks_down(above), level.looks_down(below)) == (False, True)
    assert not level.looks_down(np.vstack([below, above]))
    with pytest.raises(CalibrationError, match="look down"):
        level.on_plane(above, 0.0)


@pytest.mark.parametrize("intrinsics", [None, LENS])
def test_a_camera_is_found_from_what_it_draws(intrinsics):
    points_m = grid_points()
    found = fit_camera(points_m, CAMERA.project(points_m), (320, 240), intrinsics)
    assert found.position_m == pytest.approx(CAMERA.position_m, abs=2e-3)
    assert found.focal_px[0] == pytest.approx(300.0, rel=5e-3)
    others_m = points_m + np.array([0.013, -0.021, -0.05])
    assert found.project(others_m) == pytest.approx(CAMERA.project(others_m), abs=0.1)


def test_noise_of_a_fifth_of_a_pixel_costs_less_than_a_millimetre_on_the_table():
    points_m = grid_points((5, 5, 3))
    noise = np.random.default_rng(3).normal(0.0, 0.2, size=(len(points_m), 2))
    found = fit_camera(points_m, CAMERA.project(points_m) + noise, (320, 240))
    places_m = np.array([[x, y, 0.0] for x in (0.3, 0.4, 0.5) for y in (-0.1, 0.0, 0.1)])
    off_m = found.on_plane(CAMERA.project(places_m), 0.0) - places_m
    assert np.linalg.norm(off_m, axis=1).max() < 1e-3


@pytest.mark.parametrize(
    ("points_m", "intrinsics"),
    [
        (grid_points()[:7], LENS),
        (np.repeat(grid_points()[:1], 20, axis=0), LENS),
        (grid_points((5, 5, 1)), None),
    ],
    ids=["few", "one place", "flat without lens"],
)
def test_points_that_cannot_tell_are_refused(points_m, intrinsics):
    with pytest.raises(CalibrationError):
        fit_camera(points_m, CAMERA.project(points_m), (320, 240), intrinsics)


@pytest.mark.parametrize(
    "grid",
    [Grid(margin_m=0.16), Grid(low_m=0.01), Grid(high_m=0.4)],
    ids=["margin", "too low", "too high"],
)
def test_a_grid_outside_the_box_is_refused(grid):
    with pytest.raises(CalibrationError):
        grid.points_m((0.25, -0.15, 0.015), (0.55, 0.15, 0.315))


def test_a_grid_s_ways_are_short():
    points_m = grid_points((4, 5, 2))
    assert len(points_m) == 40
    ways_m = np.linalg.norm(np.diff(points_m, axis=0), axis=1)
    assert np.median(ways_m) == pytest.approx(0.06, abs=1e-9)


class Stuck(SimArm):
    """An arm that takes commands and stays where it is."""

    def command(self, target):
        pass


def test_an_arm_that_does_not_arrive_is_a_fault():
    env, world = make_blind_env(SimConfig(image_size=8))
    arm = Stuck(world)
    arm.connect()
    arm.reset(StartPose(position_m=(0.4, 0.0, 0.07), gripper_opening=0.4))
    views = visit(arm, next(iter(env._cameras.values())), world.clock, [(0.45, 0.0, 0.07)], 0.4)
    with pytest.raises(RobotFault, match="calibration_not_reached"):
        next(views)


@pytest.fixture(scope="module")
def reach(tmp_path_factory):
    return calibrate(CalibrateConfig(out=tmp_path_factory.mktemp("reach")))


def test_the_simulated_camera_is_found_to_a_pixel_s_third(reach):
    assert reach.calibration.num_views == 75
    assert reach.calibration.error_px < 0.33
    assert reach.errors_px.max() < 1.0
    # Where the scene has it, and how large its target is: the one place where that is looked up.
    assert reach.calibration.camera.position_m == pytest.approx((0.98, 0.0, 0.92), abs=0.02)
    assert reach.calibration.target.side_m == pytest.approx(0.05, abs=0.002)
    assert reach.summary()["target_side_mm"] == pytest.approx(50.0, abs=2.0)


def test_pick_is_calibrated_with_the_object_in_the_grip(tmp_path):
    found = calibrate(CalibrateConfig(sim=SimConfig(task="pick"), out=tmp_path))
    assert found.calibration.error_px < 0.5
    assert found.calibration.target is None
    assert found.summary()["target_side_mm"] is None
    assert found.calibration.camera.position_m == pytest.approx((1.06, 0.0, 0.84), abs=0.03)
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_the_file_gives_back_the_same_calibration(reach, tmp_path):
    path = tmp_path / "calibration.toml"
    path.write_text(to_toml(reach.calibration), encoding="utf-8")
    assert build_file(Calibration, path) == reach.calibration


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("format = 1", "format = 2", "calibrate again"),
        ("num_views = 75", "num_view = 75", "num_view"),
        ("num_views = 75", "", "num_views"),
        ("width_px = 224", "width_px = 224.5", "width_px"),
        ("side_m = 0.05", "side_m = -0.05", "side_m"),
        ("side_m = 0.05", "side_m = 5.05", "side_m must be between 0 and 1.*metres"),
        ("height_m = 0.06", "height_m = 60.0", "height_m must be between 0 and 1.*metres"),
        ("area_m2 = 0.00", "area_m2 = 100.00", "area_m2 must be between 0 and 1.*square"),
        ("area_m2 = 0.00", "area_m2 = nan # ", "area_m2 must be between 0 and 1"),
        ("box_low_m = [0.25", "box_low_m = [nan", "box_low_m must be finite"),
        ("box_high_m = [0.55", "box_high_m = [inf", "box_high_m must be finite"),
        ("box_low_m = [0.25", "box_low_m = [0.75", "box_low_m must be below box_high_m"),
    ],
)
def test_a_file_that_is_not_one_is_refused(reach, tmp_path, before, after, message):
    text = to_toml(reach.calibration)
    assert before in text
    path = tmp_path / "calibration.toml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        build_file(Calibration, path)


def test_a_table_that_is_not_bare_is_refused(tmp_path):
    sim = SimConfig(variation="distractor")
    with pytest.raises(CannotStart, match="bare table"):
        calibrate(CalibrateConfig(sim=sim, out=tmp_path))


@pytest.mark.parametrize(
    ("mark", "message"), [((10.0, 200.0, 3.0), "grey"), ((500.0, 10.0, 3.0), "outside")]
)
def test_a_mark_beside_the_object_is_refused(tmp_path, mark, message):
    settings = CalibrateConfig(
        out=tmp_path,
        held_mark=mark,
        target_mark=(174.0, 185.0, 4.0),
        grid=Grid(num=(2, 2, 2)),
    )
    with pytest.raises(CalibrationError, match=message):
        calibrate(settings)


def test_an_object_that_stays_behind_is_noticed(tmp_path):
    settings = CalibrateConfig(
        out=tmp_path,
        held_mark=(174.0, 185.0, 4.0),  # the target, which the arm does not carry
        target_mark=(174.0, 185.0, 4.0),
        grid=Grid(num=(2, 2, 2)),
    )
    with pytest.raises(CalibrationError):
        calibrate(settings)


def test_no_views_are_no_calibration():
    with pytest.raises(CalibrationError, match="no views"):
        fit(
            [],
            camera_name="front",
            held_mark=Mark(column_px=1, row_px=1),
            target_mark=None,
            centre_from_tool_m=(0.0, 0.0, 0.0),
            held_height_m=0.06,
            box_low_m=(0.0, 0.0, 0.0),
            box_high_m=(1.0, 1.0, 1.0),
        )


HELD, TARGET = Mark(column_px=49, row_px=70, radius_px=4), Mark(column_px=174, row_px=185)


@pytest.fixture(scope="module")
def bench_views():
    """What the simulated camera shows of a small grid."""
    points_m = Grid(num=(2, 2, 2)).points_m((0.25, -0.15, 0.015), (0.55, 0.15, 0.315))
    with simulated(SimConfig(), points_m[0]) as bench:
        return bench, list(visit(bench.arm, bench.camera, bench.clock, points_m, bench.opening))


def with_first(views: list[View], image: np.ndarray) -> list[View]:
    return [replace(views[0], frame=replace(views[0].frame, image=image)), *views[1:]]


def fit_views(bench_views, first: np.ndarray | None = None, **changes):
    bench, views = bench_views
    known = {
        "camera_name": "front",
        "held_mark": HELD,
        "target_mark": TARGET,
        "centre_from_tool_m": bench.centre_from_tool_m,
        "held_height_m": bench.held_height_m,
        "box_low_m": bench.box_low_m,
        "box_high_m": bench.box_high_m,
        "target_side_m": bench.target_side_m,
    }
    return fit(views if first is None else with_first(views, first), **(known | changes))


def half_hidden(image: np.ndarray) -> np.ndarray:
    covered = image.copy()
    covered[:, 174:] = (189, 181, 168)
    return covered


def test_a_half_hidden_target_is_told_by_the_ruler(bench_views):
    first = half_hidden(bench_views[1][0].frame.image)
    left = replace(TARGET, column_px=168)
    with pytest.raises(CalibrationError, match=r"looks 3\d mm wide, by the ruler it is 50 mm"):
        fit_views(bench_views, first, target_mark=left)
    assert fit_views(bench_views, first, target_mark=left, target_side_m=None)
    assert fit_views(bench_views).target_m == pytest.approx((0.504, 0.117), abs=0.005)


def test_a_target_at_the_border_is_refused_by_its_mark(bench_views):
    image = bench_views[1][0].frame.image
    # Moved down until the image ends in the middle of it.
    cut = np.vstack([np.repeat(image[:1], 39, axis=0), image[:-39]])
    check_marks(image, HELD, TARGET)
    with pytest.raises(CalibrationError, match="reaches the border of the image"):
        check_marks(cut, replace(HELD, row_px=109), replace(TARGET, row_px=220))


@pytest.mark.parametrize("place", [(319.6, 100.0), (319.99, 239.99), (100.0, 239.5)])
def test_a_mark_in_the_last_half_pixel_is_in_the_image(place):
    image = np.full((240, 320, 3), (189, 181, 168), np.uint8)
    image[80:, 80:] = (209, 15, 13)
    check_marks(image, Mark(column_px=place[0], row_px=place[1], radius_px=6), None)


def test_the_marks_are_checked_before_the_arm_makes_its_way(tmp_path, monkeypatch):
    num_seen = 0

    def counted(*args, **details):
        nonlocal num_seen
        for view in visit(*args, **details):
            num_seen += 1
            yield view

    monkeypatch.setattr(command, "visit", counted)
    settings = CalibrateConfig(out=tmp_path, held_mark=(49, 70, 4), target_mark=(10, 200, 3))
    with pytest.raises(CalibrationError, match="grey"):
        calibrate(settings)
    assert num_seen == 1


def test_the_target_is_drawn_where_and_as_large_as_it_was_found(reach):
    blank = np.zeros((224, 224, 3), np.uint8)
    drawn = draw.draw_fit(blank, reach, zoom=1)
    half = reach.calibration.target.side_m / 2
    corner_m = np.array([[*(reach.target_m - half), 0.0]])
    column, row = reach.calibration.camera.project(corner_m)[0]
    around = drawn[round(row) - 1 : round(row) + 2, round(column) - 1 : round(column) + 2]
    assert around.reshape(-1, 3).max(axis=0) == pytest.approx(draw.TARGET, abs=60)


def test_a_refused_calibration_leaves_the_old_one_with_its_picture(tmp_path):
    small = CalibrateConfig(out=tmp_path, grid=Grid(num=(2, 2, 2)))
    calibrate(small)
    kept = {name: (tmp_path / name).read_bytes() for name in ("calibration.toml", "grid.png")}
    assert not (tmp_path / "grid-refused.png").exists()
    with pytest.raises(CannotStart, match=r"reprojection error.*grid-refused\.png"):
        calibrate(replace(small, grid=Grid(num=(3, 3, 2)), max_error_px=0.01))
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert (tmp_path / "grid-refused.png").stat().st_size > 1000
    calibrate(small)
    assert not (tmp_path / "grid-refused.png").exists()


@pytest.mark.parametrize("side_m", [0.0, -0.05, 5.0, float("nan")])
def test_a_ruler_s_number_that_cannot_be_is_refused(side_m):
    with pytest.raises(ValueError, match="target_side_m"):
        CalibrateConfig(target_side_m=side_m)
