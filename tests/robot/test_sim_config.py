from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from robot.sim.config import EVAL_POSITIONS, REGIONS, VARIATIONS, SimConfig
from robot.sim.env import make_sim_spec


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"task": "juggle"}, "task"),
        ({"variation": "distractors"}, "variation"),
        ({"task": "pick", "variation": "distractor"}, "variation"),
        ({"target_region": "everywhere"}, "target_region"),
        ({"image_size": 4}, "image_size"),
        ({"image_size": 300}, "image_size"),
        ({"max_steps": 0}, "max_steps"),
        ({"control_hz": 0.0}, "control_hz"),
        ({"reach_tolerance_m": 0.0}, "reach_tolerance_m"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(changes, named):
    with pytest.raises(ValueError, match=named):
        SimConfig(**changes)


def test_regions_and_positions_lie_in_the_unit_square():
    for x_range, y_range in REGIONS.values():
        assert 0.0 <= x_range[0] < x_range[1] <= 1.0
        assert 0.0 <= y_range[0] < y_range[1] <= 1.0
    assert len(EVAL_POSITIONS) == 18
    assert len({place for place, _ in EVAL_POSITIONS}) == 18
    for place, start in EVAL_POSITIONS:
        assert all(0.0 <= fraction <= 1.0 for fraction in (*place, *start))


def test_the_spec_does_not_depend_on_variation_or_region():
    plain = make_sim_spec(SimConfig())
    assert plain.action_names == ("x", "y")
    for variation in VARIATIONS["reach"]:
        varied = make_sim_spec(SimConfig(variation=variation, target_region="left"))
        assert plain.difference(varied) == []
    pick = make_sim_spec(SimConfig(task="pick", image_size=64))
    assert pick.action_names == ("x", "y", "z", "gripper")
    assert pick.field("image.front").shape == (64, 64, 3)
    assert pick.field("state").shape == (8,)


ROOT = Path(__file__).parents[2]


def test_configuration_needs_no_mujoco():
    code = "import robot.sim.env, sys; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, cwd=ROOT).returncode == 0


def test_missing_opengl_is_explained():
    code = (
        "import sys; sys.modules['mujoco.egl'] = None\n"
        "from robot.sim.config import SimConfig\n"
        "from robot.clock import SimulatedClock\n"
        "from robot.sim.env import make_sim_env\n"
        "make_sim_env(SimConfig(), SimulatedClock()).observe()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert result.returncode == 1
    assert "apt-get install libegl1 libgl1" in result.stderr
