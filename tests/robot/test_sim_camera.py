from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.interfaces import Frame, RobotFault, StartPose
from robot.observation import reduce_image
from robot.sim import camera as camera_module
from robot.sim.arm import SimArm
from robot.sim.camera import SimCamera
from robot.sim.config import TABLE_MARGIN_M, VARIATIONS, SimConfig
from robot.sim.objects import PRISM_HEIGHT_M
from robot.sim.tasks import HOLDING_OPENING, REACH_HEIGHT_M
from robot.sim.world import SimWorld
from tests.contracts.camera import CameraContract

LIMITS = SimConfig().limits
FREE_BODIES = {
    ("reach", "distractor"): ("distractor",),
    ("pick", "none"): ("object",),
    ("pick", "green_octagon"): ("object",),
    ("pick", "distractors"): ("object", "distractor_box", "distractor_can"),
}


class TestSimCamera(CameraContract):
    def make_camera(self):
        clock = SimulatedClock()
        return SimCamera(SimWorld(SimConfig(), clock)), clock


def is_red(image: np.ndarray) -> np.ndarray:
    colour = image.astype(int)
    return (colour[..., 0] > 90) & (colour[..., 1] < 60) & (colour[..., 2] < 60)


def is_blue(image: np.ndarray) -> np.ndarray:
    colour = image.astype(int)
    return (colour[..., 2] > 90) & (colour[..., 0] < 60) & (colour[..., 1] < 110)


@pytest.fixture(scope="module")
def reach():
    world = SimWorld(SimConfig(), SimulatedClock())
    arm, camera = SimArm(world), SimCamera(world)
    arm.connect()
    yield world, arm, camera
    camera.close()


def look(reach, tool, target) -> Frame:
    world, arm, camera = reach
    world.reset()
    world.place_body("target", np.array([*target, 0.001]))
    arm.reset(StartPose(position_m=(*tool, REACH_HEIGHT_M), gripper_opening=HOLDING_OPENING))
    return camera.read()


def test_held_object_and_target_are_whole_in_the_picture_at_every_edge(reach):
    low, high = LIMITS.box_low_m, LIMITS.box_high_m
    x_mid, y_mid = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    margin = TABLE_MARGIN_M
    for x in (low[0], x_mid, high[0]):
        for y in (low[1], y_mid, high[1]):
            # The target in the opposite corner of its own area.
            target = (
                low[0] + margin if x > x_mid else high[0] - margin,
                low[1] + margin if y > y_mid else high[1] - margin,
            )
            image = look(reach, (x, y), target).image
            for mask, num_least in ((is_red(image), 250), (is_blue(image), 250)):
                assert mask.sum() >= num_least
                rows, columns = np.nonzero(mask)
                assert rows.min() > 0
                assert columns.min() > 0
                assert rows.max() < image.shape[0] - 1
                assert columns.max() < image.shape[1] - 1


def test_the_object_to_pick_is_whole_in_the_picture_everywhere_in_the_box():
    world = SimWorld(SimConfig(task="pick"), SimulatedClock())
    camera = SimCamera(world)
    low, high = LIMITS.box_low_m, LIMITS.box_high_m
    for corner in itertools.product(*zip(low, high, strict=True)):
        world.reset()
        away_m = np.array([0.25, -np.sign(corner[1]) * 0.15, 0.1])
        world.place_arm(away_m, 1.0)
        world.place_body("object", np.array(corner))
        mask = is_red(camera.read().image)
        rows, columns = np.nonzero(mask)
        assert mask.sum() >= 200
        assert min(rows.min(), columns.min()) > 0
        assert max(rows.max(), columns.max()) < mask.shape[0] - 1
    camera.close()


def test_the_box_fills_the_picture(reach):
    low, high = LIMITS.box_low_m, LIMITS.box_high_m
    columns = []
    for y in (low[1], high[1]):
        image = look(reach, (high[0], y), (low[0] + 0.02, 0.0)).image
        columns.append(np.nonzero(is_red(image))[1].mean())
    assert columns[1] - columns[0] > 0.75 * 224


def test_left_of_the_arm_is_right_in_the_picture(reach):
    image = look(reach, (0.45, 0.12), (0.45, -0.12)).image
    assert np.nonzero(is_red(image))[1].mean() > np.nonzero(is_blue(image))[1].mean()


@pytest.mark.parametrize("size", [48, 84])
def test_the_target_is_seen_at_training_sizes(reach, size):
    image = look(reach, (0.30, 0.1), (0.50, -0.12)).image
    small = reduce_image(image, (size, size, 3))
    assert is_blue(small).sum() >= 10
    assert is_red(small).sum() >= 8


@pytest.mark.parametrize(
    ("task", "variation"), [(task, name) for task, names in VARIATIONS.items() for name in names]
)
def test_every_variation_looks_different(task, variation):
    def draw(name: str) -> np.ndarray:
        world = SimWorld(SimConfig(task=task, variation=name), SimulatedClock())
        world.reset()
        if task == "reach":
            world.place_body("target", np.array([0.45, -0.1, 0.001]))
        for place, body in enumerate(FREE_BODIES.get((task, name), ())):
            world.place_body(body, np.array([0.35 + 0.05 * place, 0.0, PRISM_HEIGHT_M / 2]))
        world.place_arm(np.array([0.30, 0.1, 0.1]), HOLDING_OPENING)
        camera = SimCamera(world)
        image = camera.read().image
        camera.close()
        return image

    plain, varied = draw("none"), draw(variation)
    assert plain.std() > 20
    assert np.array_equal(plain, varied) is (variation == "none")


def test_pictures_repeat_bit_for_bit(reach):
    first = look(reach, (0.35, 0.05), (0.5, -0.1)).image
    look(reach, (0.5, -0.05), (0.3, 0.1))
    assert np.array_equal(first, look(reach, (0.35, 0.05), (0.5, -0.1)).image)


def test_another_thread_is_refused(reach):
    _, _, camera = reach
    camera.read()
    caught: list[RobotFault] = []

    def read() -> None:
        try:
            camera.read()
        except RobotFault as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert [error.code for error in caught] == ["camera_thread"]


def test_a_blank_picture_is_a_fault(monkeypatch):
    class BlankRenderer:
        def update_scene(self, data, camera) -> None: ...
        def close(self) -> None: ...
        def render(self) -> np.ndarray:
            return np.full((224, 224, 3), 7, dtype=np.uint8)

    monkeypatch.setattr(camera_module, "make_renderer", lambda model, size: BlankRenderer())
    camera = SimCamera(SimWorld(SimConfig(), SimulatedClock()))
    with pytest.raises(RobotFault) as caught:
        camera.read()
    assert caught.value.code == "camera_blank"
