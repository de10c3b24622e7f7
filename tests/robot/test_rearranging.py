"""The double's workspace is arranged anew while the tool is out of the way, and only then."""

from __future__ import annotations

import numpy as np
import pytest

from robot.clock import SimulatedClock
from robot.doubles.rearranging import Rearranger
from robot.sim.config import SimConfig
from robot.sim.world import SimWorld


@pytest.mark.parametrize(("task", "body"), [("reach", "target"), ("pick", "object")])
def test_the_object_is_moved_once_each_time_the_tool_rises(task, body) -> None:
    world = SimWorld(SimConfig(task=task), SimulatedClock())
    rearranger = Rearranger(world, 0.2, seed=1)
    places = []
    for _ in range(4):
        world.place_arm(np.array([0.4, 0.0, 0.10]), 0.5)
        assert not rearranger.look()
        world.place_arm(np.array([0.4, 0.0, 0.25]), 0.5)
        assert rearranger.look()
        places.append(world.body_position(body))
        assert not rearranger.look()
    xy = np.array(places)[:, :2]
    assert np.all(xy >= [0.27, -0.13])
    assert np.all(xy <= [0.53, 0.13])
    assert len({tuple(place) for place in xy.round(4)}) == 4
    assert np.abs(np.array(places)[:, 2] - places[0][2]).max() < 1e-6
