"""Puts a simulated workspace together behind the environment every robot has."""

from __future__ import annotations

from protos.trial import RobotSpec
from robot.clock import Clock
from robot.env import RobotEnv, make_spec
from robot.rewards import PickReward, ReachReward
from robot.safety import SafetyGate
from robot.sim.config import SimConfig

CAMERA = "front"
ACTION_NAMES = {"reach": ("x", "y"), "pick": ("x", "y", "z", "gripper")}


def make_sim_spec(config: SimConfig) -> RobotSpec:
    """Returns the spec of the simulated robot; a variation does not change it."""
    names = ACTION_NAMES[config.task]
    return make_spec(
        task=config.task,
        camera_names=(CAMERA,),
        image_size=config.image_size,
        action_names=names,
        action_scale=[
            config.gripper_scale if name == "gripper" else config.action_scale_m for name in names
        ],
        control_hz=config.control_hz,
        max_steps=config.max_steps,
    )


def make_sim_env(config: SimConfig, clock: Clock) -> RobotEnv:
    """Returns the simulated robot: real time on a monotonic clock, instant on a simulated one.

    Raises:
        ImportError: MuJoCo, or OpenGL for it, is not installed.
    """
    from robot.sim.arm import SimArm
    from robot.sim.camera import SimCamera
    from robot.sim.tasks import PickTask, ReachTask
    from robot.sim.world import SimWorld

    spec = make_sim_spec(config)
    world = SimWorld(config, clock)
    is_reach = config.task == "reach"
    return RobotEnv(
        arm=SimArm(world),
        cameras=[SimCamera(world, CAMERA)],
        reward=(
            ReachReward(config.reach_tolerance_m) if is_reach else PickReward(config.lift_height_m)
        ),
        gate=SafetyGate(
            config.limits,
            action_names=spec.action_names,
            action_scale=spec.action_scale,
            period_s=1.0 / config.control_hz,
        ),
        task=ReachTask(world) if is_reach else PickTask(world),
        spec=spec,
        clock=clock,
    )
