"""A robot ready to be calibrated: the object in its gripper, a camera that sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from robot.calibration_views import PERIOD_S
from robot.camera_model import Intrinsics
from robot.clock import Clock, SimulatedClock
from robot.interfaces import Arm, Camera
from robot.sim.config import SimConfig
from robot.task_config import TaskName
from services.process import CannotStart

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A robot ready to be calibrated, with the object in its gripper at the first point."""

    arm: Arm
    camera: Camera
    clock: Clock
    opening: float
    """Of the gripper while the object is carried."""
    centre_from_tool_m: Point
    held_height_m: float
    target_side_m: float | None
    """Of the target, as the ruler says; None where nobody measured it or the task has none."""
    task: TaskName
    box_low_m: Point
    box_high_m: Point
    period_s: float = PERIOD_S
    """Between two commands."""
    intrinsics: Intrinsics | None = None
    """As the camera says."""
    camera_serial: str = ""
    """As the camera says; empty where it has none."""


@contextmanager
def simulated(sim: SimConfig, start_m: Point) -> Iterator[Bench]:
    """Yields the simulated robot with the object in its gripper; its time passes at once."""
    from robot.sim.arm import SimArm
    from robot.sim.camera import SimCamera
    from robot.sim.hand import hand_over
    from robot.sim.world import SimWorld

    clock = SimulatedClock()
    world = SimWorld(sim, clock)
    arm, camera = SimArm(world), SimCamera(world)
    arm.connect()
    try:
        try:
            given = hand_over(world, arm, clock, start_m[:2])
        except ValueError as error:
            raise CannotStart(str(error)) from error
        yield Bench(
            arm=arm,
            camera=camera,
            clock=clock,
            opening=given.opening,
            centre_from_tool_m=given.centre_from_tool_m,
            held_height_m=given.height_m,
            target_side_m=given.target_side_m,
            task=sim.task,
            box_low_m=sim.limits.box_low_m,
            box_high_m=sim.limits.box_high_m,
        )
    finally:
        camera.close()
        arm.close()
