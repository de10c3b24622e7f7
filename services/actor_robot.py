"""Which robot an actor drives: its spec, and the environment around it."""

from __future__ import annotations

from collections.abc import Callable

from protos.trial import RobotSpec
from robot.clock import Clock, SimulatedClock
from robot.env import RobotEnv
from robot.interfaces import Reward
from services.actor_config import ActorConfig
from services.config import build_file


def make_env(
    config: ActorConfig, clock: Clock, should_stop: Callable[[], bool] = lambda: False
) -> RobotEnv:
    """Returns the robot of `config`, connected.

    Args:
        config: Which robot.
        clock: Paces and dates.
        should_stop: Asked while a real arm is on its way to a start, which is broken off then.

    Raises:
        ImportError: What it needs is not installed.
        RobotFault: A real robot is not ready, or a part of it is not there.
    """
    if config.robot == "xarm7":
        from services.actor_cell import make_cell_env

        return make_cell_env(config, clock, should_stop)
    if config.robot == "sim":
        from robot.sim.env import make_sim_env

        return make_sim_env(config.sim, clock, _detector(config))
    from robot.fakes import make_counting_env

    return make_counting_env(
        clock,
        max_steps=config.sim.max_steps,
        control_hz=config.sim.control_hz,
        image_size=config.sim.image_size,
        frame_limits=config.sim.frames,
    )


def robot_spec(config: ActorConfig, *, is_calibrated: bool = True) -> RobotSpec:
    """Returns the spec of the robot of `config`, without touching it.

    Args:
        config: Which robot.
        is_calibrated: Refuse a real arm that is not calibrated.

    Raises:
        ConfigError: Something is missing that a real robot needs, or is not as it should be.
    """
    if config.robot == "xarm7":
        from services.actor_cell import camera_names, check_cell

        check_cell(config, is_calibrated=is_calibrated)
        return config.cell.spec(camera_names(config))
    if config.robot == "sim":
        from robot.sim.env import make_sim_spec

        return make_sim_spec(config.sim)
    return make_env(config, SimulatedClock()).spec


def _detector(config: ActorConfig) -> Reward | None:
    """Returns the detector of the calibration, None where rewards are the simulator's."""
    if config.calibration is None:
        return None
    from robot.calibration import Calibration
    from robot.detectors.make import make_detector

    return make_detector(
        config.sim.task,
        build_file(Calibration, config.calibration),
        reach_tolerance_m=config.sim.reach_tolerance_m,
        lift_height_m=config.sim.lift_height_m,
    )
