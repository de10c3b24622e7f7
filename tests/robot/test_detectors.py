from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from robot.calibration import Calibration, HeldModel, TargetModel
from robot.camera_model import CalibrationError, CameraModel
from robot.detectors.blobs import find_blobs
from robot.detectors.colours import disc, learn_colour
from robot.detectors.make import make_detector
from robot.detectors.pick import PickDetector
from robot.detectors.reach import ReachDetector
from robot.detectors.track import ToolTrack
from robot.detectors.verdict import sureness
from robot.interfaces import ArmState, Frame, Reward, RobotFault
from robot.observation import Observation

RED, BLUE, TABLE, GREY = (209, 15, 13), (13, 56, 191), (189, 181, 168), (77, 79, 84)
SIZE_PX = 256
# One metre above (0.4, 0), looking straight down: the base's y is the image's left.
CAMERA = CameraModel(
    width_px=SIZE_PX,
    height_px=SIZE_PX,
    focal_px=(500.0, 500.0),
    centre_px=(127.5, 127.5),
    rotation_rad=tuple(cv2.Rodrigues(np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]))[0].ravel()),
    translation_m=(0.0, 0.4, 1.0),
)
HELD_RADIUS_M, TARGET_SIDE_M = 0.02, 0.05
PERIOD_NS = 100_000_000


def plain(colour) -> np.ndarray:
    return np.full((SIZE_PX, SIZE_PX, 3), colour, np.uint8)


def colour_of(colour):
    return learn_colour(plain(colour), np.ones((SIZE_PX, SIZE_PX), bool))


CALIBRATION = Calibration(
    camera_name="front",
    camera=CAMERA,
    held=HeldModel(
        colour=colour_of(RED),
        centre_from_tool_m=(0.0, 0.0, -0.015),
        area_m2=np.pi * HELD_RADIUS_M**2,
        height_m=0.06,
        opening=0.45,
    ),
    target=TargetModel(colour=colour_of(BLUE), side_m=TARGET_SIDE_M),
    box_low_m=(0.25, -0.15, 0.015),
    box_high_m=(0.55, 0.15, 0.315),
    num_views=75,
    error_px=0.2,
)


class Scene:
    """Flat discs and a square drawn where the camera would see them."""

    def __init__(self, target_m=None) -> None:
        self.image = plain(TABLE)
        if target_m is not None:
            half = TARGET_SIDE_M / 2
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + np.array(target_m)
            flat = CAMERA.project(np.column_stack([corners, np.zeros(4)]))
            cv2.fillPoly(self.image, [np.round(flat).astype(np.int32)], BLUE)

    def disc(self, place_m, colour=RED, radius_m=HELD_RADIUS_M) -> Scene:
        column, row = CAMERA.project(np.array([place_m]))[0]
        radius_px = radius_m / CAMERA.metres_per_px(np.array(place_m))
        self.image[disc((SIZE_PX, SIZE_PX), column, row, radius_px)] = colour
        return self


def seen(
    scene, tool_m, *, step=0, lag_ns=0, is_stuck=False, opening=0.45, is_stale=False
) -> Observation:
    t_ns = 1_000_000_000 + step * PERIOD_NS
    return Observation(
        fields={},
        t_observed_ns=t_ns,
        is_stale=is_stale,
        frames={"front": Frame(image=scene.image, t_ns=t_ns - lag_ns, frame_number=step + 1)},
        arm=ArmState(
            position_m=tuple(tool_m),
            rotation_rad=(np.pi, 0.0, 0.0),
            gripper_opening=opening,
            is_gripper_stuck=is_stuck,
            t_ns=t_ns,
        ),
    )


def carried(scene, tool_m) -> Scene:
    return scene.disc(np.array(tool_m) + (0.0, 0.0, -0.015))


@pytest.fixture
def reach():
    return ReachDetector(CALIBRATION, 0.018)


@pytest.fixture
def pick():
    return PickDetector(CALIBRATION, 0.05)


TARGET_M = (0.45, 0.06)
START_M = (0.32, -0.05, 0.07)
GOAL_M = (*TARGET_M, 0.07)


@pytest.mark.parametrize("brightness", [0.45, 1.0, 1.2])
def test_a_colour_is_found_in_light_and_shade(brightness):
    lit = np.clip(brightness * plain(RED).astype(float), 0, 255).astype(np.uint8)
    assert colour_of(RED).mask(lit).all()


@pytest.mark.parametrize("other", [BLUE, TABLE, GREY, (122, 41, 158), (237, 191, 20), (2, 0, 0)])
def test_other_colours_are_not_taken_for_it(other):
    assert not colour_of(RED).mask(plain(other)).any()


@pytest.mark.parametrize("shown", [TABLE, GREY, (255, 255, 255)])
def test_grey_is_no_colour_to_learn(shown):
    with pytest.raises(CalibrationError, match="grey"):
        colour_of(shown)


def test_a_colour_needs_pixels():
    with pytest.raises(CalibrationError, match="pixels"):
        learn_colour(plain(RED), disc((SIZE_PX, SIZE_PX), 5, 5, 1))


def test_blobs_come_largest_first_with_their_middles():
    mask = disc((60, 80), 20.0, 30.0, 9.0) | disc((60, 80), 60.5, 25.0, 4.0)
    mask |= disc((60, 80), 79.0, 59.0, 1.0)
    large, small, corner = find_blobs(mask, 2)
    assert large.centroid_px == pytest.approx((20.0, 30.0), abs=0.05)
    assert small.centroid_px == pytest.approx((60.5, 25.0), abs=0.05)
    assert (large.touches_border, corner.touches_border) == (False, True)
    assert len(find_blobs(mask, 10)) == 2


def test_the_tool_is_looked_up_at_the_frame_s_time():
    track = ToolTrack()
    for step in range(3):
        track.add(seen(Scene(), (0.3 + 0.02 * step, 0.0, 0.1), step=step).arm)
    middle_ns = 1_000_000_000 + PERIOD_NS + PERIOD_NS // 4
    assert track.at(middle_ns) == pytest.approx((0.325, 0.0, 0.1))
    assert track.at(0) == pytest.approx((0.3, 0.0, 0.1))
    assert track.at(10**12) == pytest.approx((0.34, 0.0, 0.1))


def test_sureness_grows_with_the_margin():
    assert sureness(0.0, 0.002) == 0.0
    assert sureness(-0.002, 0.002) == pytest.approx(0.6827, abs=1e-4)
    assert sureness(0.02, 0.002) == pytest.approx(1.0)


@pytest.mark.parametrize(("task", "kind"), [("reach", ReachDetector), ("pick", PickDetector)])
def test_each_task_has_its_detector(task, kind):
    made = make_detector(task, CALIBRATION, reach_tolerance_m=0.02, lift_height_m=0.05)
    assert isinstance(made, kind)
    assert isinstance(made, Reward)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="fold"):
        make_detector("fold", CALIBRATION, reach_tolerance_m=0.02, lift_height_m=0.05)
    with pytest.raises(ValueError, match=r"lift_height_m must be at least 0.04 m.*got 0.02"):
        make_detector("pick", CALIBRATION, reach_tolerance_m=0.02, lift_height_m=0.02)
    make_detector("reach", CALIBRATION, reach_tolerance_m=0.02, lift_height_m=0.02)
    with pytest.raises(CalibrationError, match="target"):
        ReachDetector(replace(CALIBRATION, target=None), 0.02)


@pytest.mark.parametrize(
    ("off_m", "expected"),
    [((0.0, 0.0), 1.0), ((0.015, 0.0), 1.0), ((0.0, -0.015), 1.0), ((0.021, 0.0), 0.0)],
)
def test_reach_measures_in_the_plane(reach, off_m, expected):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    tool_m = (TARGET_M[0] + off_m[0], TARGET_M[1] + off_m[1], 0.07)
    assert reach(seen(carried(Scene(TARGET_M), tool_m), tool_m, step=1)) == expected
    assert reach.is_success(expected) is (expected == 1.0)
    assert reach.last.target_m == pytest.approx(TARGET_M, abs=0.001)


def test_reach_is_less_sure_near_the_border(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    sure = []
    for step, off_m in enumerate((0.0, 0.016, 0.018, 0.03), start=1):
        tool_m = (TARGET_M[0] + off_m, TARGET_M[1], 0.07)
        scene = carried(Scene(TARGET_M), tool_m)
        sure.append(reach.judge(seen(scene, tool_m, step=step)).confidence)
    assert sure[0] > 0.99
    assert sure[3] > 0.99
    assert sure[2] < sure[1] < sure[0]


def test_a_hidden_target_is_remembered(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    hidden = carried(Scene(), GOAL_M)
    verdict = reach.judge(seen(hidden, GOAL_M, step=1))
    assert verdict.reward == 1.0
    assert verdict.confidence > 0.9


def test_begin_forgets_the_target_of_the_trial_before(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    reach.begin(seen(carried(Scene(), START_M), START_M))
    verdict = reach.judge(seen(carried(Scene(), GOAL_M), GOAL_M, step=1))
    assert (verdict.reward, verdict.confidence, verdict.target_m) == (0.0, 0.0, None)


def test_a_better_view_of_the_target_replaces_a_worse_one(reach):
    partly = Scene(TARGET_M).disc((TARGET_M[0], TARGET_M[1] + 0.02, 0.03), GREY, 0.02)
    reach.begin(seen(carried(partly, START_M), START_M))
    unsure = reach.judge(seen(carried(partly, GOAL_M), GOAL_M, step=1))
    full = reach.judge(seen(carried(Scene(TARGET_M), START_M), START_M, step=2))
    assert np.hypot(*(np.array(unsure.target_m) - TARGET_M)) > 0.003
    assert full.target_m == pytest.approx(TARGET_M, abs=0.001)
    again = reach.judge(seen(carried(partly, START_M), START_M, step=3))
    assert again.target_m == full.target_m


def test_a_lookalike_on_the_target_is_not_what_is_held(reach):
    scene = carried(Scene(TARGET_M), START_M).disc((TARGET_M[0] + 0.03, TARGET_M[1], 0.05))
    reach.begin(seen(scene, START_M))
    assert reach(seen(scene, START_M, step=1)) == 0.0
    assert reach.last.confidence > 0.99


def test_a_lookalike_grown_into_the_object_does_not_move_it(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    tool_m = (TARGET_M[0] - 0.015, TARGET_M[1], 0.07)
    alone = reach.judge(seen(carried(Scene(TARGET_M), tool_m), tool_m, step=1))
    touching = carried(Scene(TARGET_M), tool_m).disc((tool_m[0] - 0.03, tool_m[1], 0.055))
    beside = reach.judge(seen(touching, tool_m, step=2))
    assert beside.reward == alone.reward == 1.0
    assert beside.held_m == pytest.approx(alone.held_m, abs=1e-4)


def test_an_object_that_sits_askew_is_measured_where_it_is_seen(reach):
    def askew(tool_m):
        return Scene(TARGET_M).disc((tool_m[0] + 0.012, tool_m[1], tool_m[2] - 0.015))

    reach.begin(seen(askew(START_M), START_M))
    tool_m = (TARGET_M[0] + 0.012, TARGET_M[1], 0.07)
    assert reach(seen(askew(tool_m), tool_m, step=1)) == 0.0
    tool_m = (TARGET_M[0] - 0.012, TARGET_M[1], 0.07)
    assert reach(seen(askew(tool_m), tool_m, step=2)) == 1.0


def test_an_object_that_is_gone_reaches_nothing(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    rewards = [reach(seen(Scene(TARGET_M), GOAL_M, step=k)) for k in range(1, 5)]
    assert rewards[-1] == 0.0
    assert reach.last.reason == "nothing held"


def test_a_late_frame_is_judged_with_the_tool_where_it_was(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    offsets_m = []
    for step in range(1, 8):
        tool_m = np.array(START_M) + (0.016 * step, 0.0, 0.0)
        # The frame shows where the tool was half a period ago.
        shown_m = tool_m - (0.008, 0.0, 0.0)
        late = seen(carried(Scene(TARGET_M), shown_m), tool_m, step=step, lag_ns=PERIOD_NS // 2)
        held_m = reach.judge(late).held_m
        offsets_m.append(held_m[0] - shown_m[0])
    assert np.abs(offsets_m).max() < 0.001


def test_a_stale_frame_repeats_the_reward_without_confidence(reach):
    reach.begin(seen(carried(Scene(TARGET_M), START_M), START_M))
    assert reach(seen(carried(Scene(TARGET_M), GOAL_M), GOAL_M, step=1)) == 1.0
    stale = reach.judge(seen(carried(Scene(TARGET_M), START_M), START_M, step=2, is_stale=True))
    assert (stale.reward, stale.confidence) == (1.0, 0.0)


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_frames_that_do_not_fit_are_a_fault(task):
    detector = make_detector(task, CALIBRATION, reach_tolerance_m=0.018, lift_height_m=0.05)
    small = Scene()
    small.image = small.image[:100]
    with pytest.raises(RobotFault, match="calibration_size"):
        detector.begin(seen(small, START_M))
    with pytest.raises(RobotFault, match="camera_missing"):
        detector.begin(replace(seen(Scene(), START_M), frames={}))


GRASP_M = (0.4, 0.02, 0.035)


def standing() -> Scene:
    return Scene().disc((0.4, 0.02, 0.03))


def grasp(pick) -> None:
    pick.begin(seen(standing(), (0.4, 0.02, 0.16), opening=1.0))
    assert pick(seen(standing(), GRASP_M, step=1, opening=1.0)) == 0.0
    assert pick(seen(standing(), GRASP_M, step=2, is_stuck=True)) == 0.5


def lifted(lift_m, **details) -> Observation:
    scene = Scene().disc((0.4, 0.02, 0.03 + lift_m))
    return seen(scene, (0.4, 0.02, 0.035 + lift_m), **details)


@pytest.mark.parametrize(("lift_m", "expected"), [(0.03, 0.5), (0.047, 0.5), (0.053, 1.0)])
def test_pick_has_three_levels(pick, lift_m, expected):
    grasp(pick)
    assert pick(lifted(lift_m, step=3, is_stuck=True)) == expected
    assert pick.is_success(expected) is (expected == 1.0)


def test_fingers_that_ease_off_still_hold_and_open_ones_do_not(pick):
    grasp(pick)
    assert pick(lifted(0.1, step=3, opening=0.455)) == 1.0
    assert pick(lifted(0.1, step=4, opening=0.6)) == 0.0
    assert pick(lifted(0.1, step=5, opening=0.45)) == 0.0


def test_an_object_gripped_off_the_middle_is_lifted_all_the_same(pick):
    scene = Scene().disc((0.415, 0.02, 0.03))
    pick.begin(seen(scene, (0.4, 0.02, 0.16), opening=1.0))
    assert pick(seen(scene, GRASP_M, step=1, is_stuck=True)) == 0.5
    up = Scene().disc((0.415, 0.02, 0.09))
    assert pick(seen(up, (0.4, 0.02, 0.095), step=2, is_stuck=True)) == 1.0


def test_something_else_between_the_fingers_is_no_pick(pick):
    scene = Scene().disc((0.4, 0.02, 0.03), (237, 191, 20)).disc((0.5, -0.1, 0.03))
    pick.begin(seen(scene, (0.4, 0.02, 0.16), opening=1.0))
    assert pick(seen(scene, GRASP_M, step=1, is_stuck=True)) == 0.0
    assert pick.last.reason == "object not at the tool"


def test_an_object_that_stays_on_the_table_is_not_lifted(pick):
    grasp(pick)
    left = seen(standing(), (0.45, 0.02, 0.135), step=3, is_stuck=True)
    assert pick(left) == 0.0


def test_begin_forgets_the_grip_of_the_trial_before(pick):
    grasp(pick)
    pick.begin(seen(standing(), (0.4, 0.02, 0.16), opening=1.0))
    assert pick(lifted(0.1, step=3, opening=0.45)) == 0.0
