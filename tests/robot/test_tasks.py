from __future__ import annotations

import math

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.sim.config import EVAL_POSITIONS, REGIONS, TABLE_MARGIN_M, VARIATIONS, SimConfig
from robot.sim.env import make_sim_task
from robot.sim.tasks import (
    CLEARANCE_M,
    MIN_START_DISTANCE_M,
    PICK_HEIGHT_M,
    REACH_HEIGHT_M,
)
from robot.sim.world import SimWorld

LIMITS = SimConfig().limits


def make_task(**changes):
    config = SimConfig(**changes)
    world = SimWorld(config, SimulatedClock())
    return make_sim_task(config, world), world


def begin(task, world, seed, position_index=None):
    pose = task.begin(seed, position_index)
    world.place_arm(np.array(pose.position_m), pose.gripper_opening)
    return pose, task.truth()


@pytest.mark.parametrize("region", sorted(REGIONS))
def test_reach_targets_fill_their_region_and_no_more(region):
    task, _ = make_task(target_region=region)
    low = np.array(LIMITS.box_low_m[:2]) + TABLE_MARGIN_M
    size = np.array(LIMITS.box_high_m[:2]) - TABLE_MARGIN_M - low
    fractions = []
    for seed in range(200):
        task.begin(seed, None)
        fractions.append((task._world.data.mocap_pos[0][:2] - low) / size)
    region_low, region_high = np.array(REGIONS[region]).T
    extent = region_high - region_low
    assert np.all(np.min(fractions, axis=0) >= region_low - 1e-9)
    assert np.all(np.max(fractions, axis=0) <= region_high + 1e-9)
    assert np.all(np.ptp(fractions, axis=0) > 0.9 * extent)


@pytest.mark.parametrize("variation", VARIATIONS["reach"])
def test_reach_starts_in_the_box_and_never_at_the_target(variation):
    task, world = make_task(variation=variation)
    for seed in range(40):
        pose, truth = begin(task, world, seed)
        assert np.all(np.array(pose.position_m) >= LIMITS.box_low_m)
        assert np.all(np.array(pose.position_m) <= LIMITS.box_high_m)
        assert pose.position_m[2] == REACH_HEIGHT_M
        distance_m = np.linalg.norm(truth["held_m"][:2] - truth["target_m"][:2])
        assert distance_m >= MIN_START_DISTANCE_M - 2e-3


@pytest.mark.parametrize("variation", VARIATIONS["reach"])
def test_fixed_positions_are_fixed_and_worth_evaluating(variation):
    task, world = make_task(variation=variation, target_region="left")
    targets = []
    for index in range(len(EVAL_POSITIONS)):
        pose, truth = begin(task, world, 1, index)
        first = world.data.qpos.copy()
        again, _ = begin(task, world, 2, index)
        assert again == pose
        assert np.array_equal(world.data.qpos, first)
        distance_m = np.linalg.norm(truth["held_m"][:2] - truth["target_m"][:2])
        assert distance_m > MIN_START_DISTANCE_M
        targets.append(truth["target_m"])
    assert np.ptp(targets, axis=0)[:2] == pytest.approx((0.208, 0.234), abs=1e-3)


@pytest.mark.parametrize("index", [-1, 18, 1000])
def test_positions_that_do_not_exist_are_refused(index):
    task, _ = make_task()
    with pytest.raises(ValueError, match=r"0 \.\. 17"):
        task.begin(0, index)


def test_the_held_object_hangs_below_the_tool():
    for variation, offset_m in (("none", 0.0), ("tool_offset", 0.0255)):
        task, world = make_task(variation=variation)
        pose, truth = begin(task, world, 3)
        beside_m = np.subtract(truth["held_m"], pose.position_m)
        assert math.hypot(beside_m[0], beside_m[1]) == pytest.approx(offset_m, abs=2e-3)
        assert truth["held_m"][2] == pytest.approx(0.025, abs=2e-3)
    assert beside_m[0] > 0
    assert beside_m[1] > 0


def test_distractors_stand_clear():
    reach, world = make_task(variation="distractor")
    for seed in range(30):
        pose, truth = begin(reach, world, seed)
        place = world.body_position("distractor")[:2]
        for other in (truth["target_m"][:2], np.array(pose.position_m[:2])):
            assert np.linalg.norm(place - other) >= CLEARANCE_M - 2e-3
    pick, world = make_task(task="pick", variation="distractors")
    for seed in range(30):
        begin(pick, world, seed)
        places = [
            world.body_position(n)[:2] for n in ("object", "distractor_box", "distractor_can")
        ]
        for index, place in enumerate(places):
            for other in places[:index]:
                assert np.linalg.norm(place - other) >= CLEARANCE_M - 2e-3


@pytest.mark.parametrize("variation", VARIATIONS["pick"])
def test_pick_begins_above_a_standing_object(variation):
    task, world = make_task(task="pick", variation=variation)
    for seed in range(5):
        pose, truth = begin(task, world, seed)
        assert pose.position_m[2] == PICK_HEIGHT_M
        assert truth["lift_m"] == pytest.approx(0.0, abs=1e-3)
        assert not truth["is_grasped"]
        assert truth["tool_m"] == pytest.approx(pose.position_m, abs=2e-3)


def test_the_same_seed_places_the_same_and_another_does_not():
    task, world = make_task(task="pick")
    states = []
    for seed in (5, 6, 5):
        begin(task, world, seed)
        states.append(world.data.qpos.copy())
    assert np.array_equal(states[0], states[2])
    assert not np.array_equal(states[0], states[1])
