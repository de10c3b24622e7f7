"""What detectors say of views that mislead: things behind the table, lookalikes, a dropped object.

The camera looks at the table from the side, as one on a tripod does, and sees beyond it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from robot.camera_model import CalibrationError, CameraModel
from robot.detectors.colours import disc
from robot.detectors.pick import PickDetector
from robot.detectors.reach import ReachDetector
from robot.interfaces import RobotFault
from tests.robot.test_detectors import BLUE, CALIBRATION, RED, TABLE, TARGET_SIDE_M, seen

WIDTH_PX, HEIGHT_PX = 640, 480
HELD_RADIUS_M = 0.027
TOOL_M = (0.4, 0.05, 0.1)
MIDDLE_M = (0.4, 0.05, 0.085)
TARGET_M = (0.45, -0.05)
OVER_TARGET_M = (*TARGET_M, 0.1)


def camera_at(place_m, looking_at_m=(0.4, 0.0, 0.0)) -> CameraModel:
    place_m = np.array(place_m)
    ahead = np.array(looking_at_m) - place_m
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(ahead, right), ahead])
    return CameraModel(
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        focal_px=(615.0, 615.0),
        centre_px=((WIDTH_PX - 1) / 2, (HEIGHT_PX - 1) / 2),
        rotation_rad=tuple(float(n) for n in cv2.Rodrigues(turn)[0].ravel()),
        translation_m=tuple(float(n) for n in -turn @ place_m),
    )


OBLIQUE = camera_at((1.1, 0.0, 0.6))
SHALLOW = camera_at((1.4, 0.0, 0.35), (0.4, 0.0, 0.05))
"""The table's horizon is in its picture."""


class View:
    """What a camera sees, drawn one thing over the other."""

    def __init__(self, camera: CameraModel = OBLIQUE) -> None:
        self.camera = camera
        self.image = np.full((HEIGHT_PX, WIDTH_PX, 3), TABLE, np.uint8)

    def square(self, place_m, side_m=TARGET_SIDE_M, colour=BLUE) -> View:
        corners = side_m / 2 * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
        flat = self.camera.project(corners + np.array([*place_m, 0.0]))
        cv2.fillPoly(self.image, [np.round(flat).astype(np.int32)], colour)
        return self

    def ball(self, middle_m, colour=RED, radius_m=HELD_RADIUS_M) -> View:
        column, row = self.camera.project(np.array([middle_m]))[0]
        return self.spot(
            column, row, radius_m / self.camera.metres_per_px(np.array(middle_m)), colour
        )

    def spot(self, column_px, row_px, radius_px, colour=BLUE) -> View:
        self.image[disc((HEIGHT_PX, WIDTH_PX), column_px, row_px, radius_px)] = colour
        return self


def calibration_of(camera: CameraModel):
    held = replace(CALIBRATION.held, area_m2=np.pi * HELD_RADIUS_M**2)
    return replace(CALIBRATION, camera=camera, held=held)


def reach_of(camera: CameraModel = OBLIQUE) -> ReachDetector:
    return ReachDetector(calibration_of(camera), 0.018)


def below(tool_m) -> tuple[float, float, float]:
    x, y, z = tool_m
    return (x, y, z - 0.015)


def test_the_target_s_colour_above_the_horizon_is_no_target():
    reach = reach_of(SHALLOW)
    plain = View(SHALLOW).square(TARGET_M).ball(MIDDLE_M)
    reach.begin(seen(plain, TOOL_M))
    alone = reach.last
    # Larger than the target, as a shirt in the background is; and the target hidden.
    behind = View(SHALLOW).square(TARGET_M).ball(MIDDLE_M).spot(500, 2, 30)
    assert reach.judge(seen(behind, TOOL_M, step=1)).target_m == alone.target_m
    hidden = View(SHALLOW).ball(MIDDLE_M).spot(600, 6, 2)
    assert reach.judge(seen(hidden, TOOL_M, step=2)).target_m == alone.target_m


UPWARDS = camera_at((1.1, 0.0, 0.03), (0.4, 0.0, 0.1))
"""Lower than the object it watches."""


def test_an_object_above_the_horizon_is_where_the_tool_has_it():
    reach = reach_of(UPWARDS)
    reach.begin(seen(View(UPWARDS).ball(MIDDLE_M), TOOL_M))
    assert reach.last.held_m == pytest.approx(MIDDLE_M)
    pick = PickDetector(calibration_of(UPWARDS), 0.05)
    pick.begin(seen(View(UPWARDS), TOOL_M))
    high_m = (0.4, 0.05, 0.2)
    pick.judge(seen(View(UPWARDS).ball(below(high_m)), high_m, step=1, is_stuck=True))
    assert (pick.last.reward, pick.last.reason) == (0.0, "object not at the tool")


def test_an_object_lifted_past_a_low_camera_is_followed():
    low = camera_at((1.1, 0.0, 0.12), (0.4, 0.0, 0.1))
    pick = PickDetector(calibration_of(low), 0.05)
    pick.begin(seen(View(low).ball((0.4, 0.05, 0.03)), (0.4, 0.05, 0.2), opening=1.0))
    for step, lift_m in enumerate((0.0, 0.05, 0.1, 0.15), start=1):
        shown = View(low).ball((0.4, 0.05, 0.03 + lift_m))
        pick.judge(seen(shown, (0.4, 0.05, 0.035 + lift_m), step=step, is_stuck=True))
    assert pick.last.reward == 1.0


def test_a_calibration_that_tells_nothing_of_a_frame_is_a_fault_of_the_robot(monkeypatch):
    reach = reach_of()

    def fail(*_args):
        raise CalibrationError("the camera looks straight along the vertical")

    monkeypatch.setattr(reach, "_look", fail)
    with pytest.raises(RobotFault, match="detector_failed.*along the vertical"):
        reach.begin(seen(View(), TOOL_M))


LOOKALIKE_M = (0.40, 0.05)


@pytest.mark.parametrize("side_m", [0.045, 0.055, 0.058])
def test_a_lookalike_that_comes_later_is_not_the_target(side_m):
    reach = reach_of()
    reach.begin(seen(View().square(TARGET_M).ball(MIDDLE_M), TOOL_M))
    placed = reach.last.target_m
    both = View().square(TARGET_M).square(LOOKALIKE_M, side_m).ball(MIDDLE_M)
    verdict = reach.judge(seen(both, TOOL_M, step=1))
    assert (verdict.reward, verdict.target_m) == (0.0, pytest.approx(placed, abs=1e-6))
    assert verdict.confidence > 0.99
    # The gripper hides the target, and only the lookalike is seen.
    other = View().square(LOOKALIKE_M, side_m).ball(MIDDLE_M)
    verdict = reach.judge(seen(other, TOOL_M, step=2))
    assert (verdict.reward, verdict.target_m) == (0.0, pytest.approx(placed, abs=1e-6))


def test_the_size_tells_the_target_from_lookalikes_while_none_is_known():
    reach = reach_of()
    large = View().square(TARGET_M).square(LOOKALIKE_M, 0.06).ball(MIDDLE_M)
    reach.begin(seen(large, TOOL_M))
    assert reach.last.target_m == pytest.approx(TARGET_M, abs=0.002)
    small = View().square(TARGET_M).square(LOOKALIKE_M, 0.03).ball(MIDDLE_M)
    reach.begin(seen(small, TOOL_M))
    assert reach.last.target_m == pytest.approx(TARGET_M, abs=0.002)


def test_a_place_with_a_rival_is_doubted_until_it_is_seen_without():
    reach = reach_of()
    both = View().square(TARGET_M).square(LOOKALIKE_M, 0.045).ball(MIDDLE_M)
    reach.begin(seen(both, TOOL_M))
    assert reach.last.confidence == 0.5
    hidden = View().ball(below(OVER_TARGET_M))
    verdict = reach.judge(seen(hidden, OVER_TARGET_M, step=1))
    assert (verdict.reward, verdict.confidence) == (1.0, 0.5)
    alone = View().square(TARGET_M).ball(MIDDLE_M)
    assert reach.judge(seen(alone, TOOL_M, step=2)).confidence > 0.99
    assert reach.judge(seen(both, TOOL_M, step=3)).confidence > 0.99


def test_a_small_patch_of_the_target_s_colour_is_no_rival():
    reach = reach_of()
    reach.begin(seen(View().square(TARGET_M).square(LOOKALIKE_M, 0.03).ball(MIDDLE_M), TOOL_M))
    assert reach.last.confidence > 0.99


def test_a_poor_view_gives_way_to_a_better_one_elsewhere():
    reach = reach_of()
    reach.begin(seen(View().square(LOOKALIKE_M, 0.03).ball(MIDDLE_M), TOOL_M))
    assert reach.last.target_m == pytest.approx(LOOKALIKE_M, abs=0.002)
    reach.judge(seen(View().square(TARGET_M).ball(MIDDLE_M), TOOL_M, step=1))
    assert reach.last.target_m == pytest.approx(TARGET_M, abs=0.002)


def test_a_target_that_is_hidden_bit_by_bit_stays_where_it_was():
    reach = reach_of()
    reach.begin(seen(View().square(TARGET_M).ball(MIDDLE_M), TOOL_M))
    placed = reach.last.target_m
    for step in range(1, 41):
        cover_m = (TARGET_M[0], TARGET_M[1] - 0.05 + 0.0008 * step)
        shown = View().square(TARGET_M).square(cover_m, colour=TABLE).ball(MIDDLE_M)
        reach.judge(seen(shown, TOOL_M, step=step))
    assert reach.last.target_m == pytest.approx(placed, abs=0.003)
    assert reach.last.confidence > 0.9


def carry(reach, *, num=10, tool_m=TOOL_M, target_m=TARGET_M) -> None:
    reach.begin(seen(View().square(target_m).ball(below(tool_m)), tool_m))
    for step in range(1, num):
        reach.judge(seen(View().square(target_m).ball(below(tool_m)), tool_m, step=step))


def test_an_object_dropped_on_the_way_reaches_nothing_at_once():
    reach = reach_of()
    goal_m = (0.46, 0.05)
    carry(reach, target_m=goal_m)
    for step, x in enumerate(np.arange(0.43, 0.535, 0.0075), start=10):
        shown = View().square(goal_m).ball((0.43, 0.05, 0.03))
        verdict = reach.judge(seen(shown, (x, 0.05, 0.1), step=step))
        assert verdict.reward == 0.0
        assert verdict.held_m is None
    assert "from where the tool would carry it" in verdict.reason


def test_an_object_that_stands_on_the_target_under_an_empty_gripper_is_not_held():
    reach = reach_of()
    carry(reach, tool_m=OVER_TARGET_M)
    assert reach.last.reward == 1.0
    on_it = View().square(TARGET_M).ball((*TARGET_M, 0.03))
    assert reach(seen(on_it, OVER_TARGET_M, step=10)) == 0.0
    # A finger before it: what was dropped stays so until it is seen at the tool again.
    half = View().square(TARGET_M).ball((*TARGET_M, 0.03)).ball((0.47, -0.05, 0.04), TABLE)
    verdict = reach.judge(seen(half, OVER_TARGET_M, step=11))
    assert (verdict.reward, verdict.confidence, verdict.reason) == (0.0, 0.5, "nothing held")
    for step, y in enumerate(np.arange(-0.12, -0.045, 0.01), start=12):
        tool_m = (TARGET_M[0], y, 0.1)
        reward = reach(seen(View().square(TARGET_M).ball(below(tool_m)), tool_m, step=step))
    assert reward == 1.0, "a person has put it back, and the tool has carried it since"


def test_an_object_that_never_was_at_the_tool_is_not_held():
    reach = reach_of()
    beside = View().square(TARGET_M).ball((TARGET_M[0], TARGET_M[1] + 0.04, 0.085))
    reach.begin(seen(beside, OVER_TARGET_M))
    assert reach.last.reward == 0.0
    assert reach.last.held_m is None


def test_an_object_that_is_not_seen_at_all_is_doubted():
    reach = reach_of()
    carry(reach, tool_m=OVER_TARGET_M)
    assert reach.last.confidence > 0.99
    verdict = reach.judge(seen(View().square(TARGET_M), OVER_TARGET_M, step=10))
    assert (verdict.reward, verdict.confidence) == (1.0, 0.5)
