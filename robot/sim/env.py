"""Puts a simulated workspace together behind the environment every robot has.

MuJoCo is imported when a workspace is made, not before: the spec and the configuration can be read
on a machine without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.trial import RobotSpec
from robot.clock import Clock
from robot.env import RobotEnv
from robot.interfaces import Reward, Task
from robot.rewards import PickReward, ReachReward
from robot.safety import SafetyGate
from robot.sim.config import SimConfig

if TYPE_CHECKING:
    from robot.sim.world import SimWorld

CAMERA = "front"


def make_sim_spec(config: SimConfig) -> RobotSpec:
    """Returns the spec of the simulated robot; a variation does not change it."""
    return config.spec((CAMERA,))


def make_sim_gate(config: SimConfig) -> SafetyGate:
    """Returns the gate of the simulated robot."""
    spec = make_sim_spec(config)
    return SafetyGate(
        config.limits,
        action_names=spec.action_names,
        action_scale=spec.action_scale,
        period_s=1.0 / config.control_hz,
    )


def make_reward(config: SimConfig) -> Reward:
    """Returns the reward of the task."""
    if config.task == "reach":
        return ReachReward(config.reach_tolerance_m)
    return PickReward(config.lift_height_m)


def make_sim_task(config: SimConfig, world: SimWorld) -> Task:
    """Returns the task in its world."""
    from robot.sim.tasks import PickTask, ReachTask

    return ReachTask(world) if config.task == "reach" else PickTask(world)


def make_sim_env(config: SimConfig, clock: Clock, reward: Reward | None = None) -> RobotEnv:
    """Returns the simulated robot: real time on a monotonic clock, instant on a simulated one.

    Args:
        config: What is in the workspace.
        clock: Whose time it follows.
        reward: Scores observations; None for the simulator's truth.

    Raises:
        ImportError: MuJoCo, or OpenGL for it, is not installed.
    """
    from robot.sim.arm import SimArm
    from robot.sim.camera import SimCamera
    from robot.sim.world import SimWorld

    world = SimWorld(config, clock)
    return RobotEnv(
        arm=SimArm(world),
        cameras=[SimCamera(world, CAMERA)],
        reward=make_reward(config) if reward is None else reward,
        gate=make_sim_gate(config),
        task=make_sim_task(config, world),
        spec=make_sim_spec(config),
        clock=clock,
        frame_limits=config.frames,
    )
