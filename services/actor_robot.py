"""Which robot an actor drives: its spec, and the environment around it."""

from __future__ import annotations

from protos.trial import RobotSpec
from robot.clock import Clock, SimulatedClock
from robot.env import RobotEnv
from services.actor_config import ActorConfig


def make_env(config: ActorConfig, clock: Clock) -> RobotEnv:
    """Returns the robot of `config`, connected; ImportError if what it needs is not installed."""
    if config.robot == "sim":
        from robot.sim.env import make_sim_env

        return make_sim_env(config.sim, clock)
    from robot.fakes import make_counting_env

    return make_counting_env(
        clock,
        max_steps=config.sim.max_steps,
        control_hz=config.sim.control_hz,
        image_size=config.sim.image_size,
        frame_limits=config.sim.frames,
    )


def robot_spec(config: ActorConfig) -> RobotSpec:
    """Returns the spec of the robot of `config`, without touching it."""
    if config.robot == "sim":
        from robot.sim.env import make_sim_spec

        return make_sim_spec(config.sim)
    return make_env(config, SimulatedClock()).spec
