"""Doubles that only the tests of the robot need."""

from __future__ import annotations

import numpy as np

from robot.clock import SimulatedClock
from robot.env import RobotEnv
from robot.interfaces import Frame
from robot.sim.arm import SimArm
from robot.sim.config import SimConfig
from robot.sim.env import make_reward, make_sim_gate, make_sim_spec, make_sim_task
from robot.sim.world import SimWorld


class StillCamera:
    """A camera that shows nothing, for tests of motion that need no picture."""

    name = "front"

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._frame_number = 0

    def read(self) -> Frame:
        self._world.advance()
        self._frame_number += 1
        image = np.zeros((8, 8, 3), dtype=np.uint8)
        return Frame(image=image, t_ns=self._world.t_ns, frame_number=self._frame_number)

    def close(self) -> None: ...


def make_blind_env(config: SimConfig) -> tuple[RobotEnv, SimWorld]:
    """Returns the simulated robot with a `StillCamera`, and its world. Wants image_size 8."""
    clock = SimulatedClock()
    world = SimWorld(config, clock)
    env = RobotEnv(
        arm=SimArm(world),
        cameras=[StillCamera(world)],
        reward=make_reward(config),
        gate=make_sim_gate(config),
        task=make_sim_task(config, world),
        spec=make_sim_spec(config),
        clock=clock,
    )
    return env, world
