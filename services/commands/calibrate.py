"""`offworld calibrate`: where the camera stands and what the objects look like, by moving the arm.

The arm carries the object over a grid of points. What comes out is a file that detectors read
(`--calibration` of `offworld data score`), and pictures to check it by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from robot.calibrating import Fit, Mark, fit
from robot.calibration_views import Grid, View, visit
from robot.camera_model import Intrinsics
from robot.clock import Clock, SimulatedClock
from robot.detectors import draw
from robot.interfaces import Arm, Camera
from robot.sim.config import SimConfig
from robot.task_config import TaskName
from services import config, console
from services.commands.flags import OutputFlags
from services.config_text import to_toml
from services.process import CannotStart, ExitCode, write_aside

CALIBRATION_FILE = "calibration.toml"
FIRST_PICTURE = "first.png"
GRID_PICTURE = "grid.png"
Marked = tuple[float, float, float]
Point = tuple[float, float, float]

GRIDS: dict[TaskName, Grid] = {
    "reach": Grid(num=(5, 5, 3), low_m=0.07, high_m=0.12),
    "pick": Grid(num=(4, 5, 3), low_m=0.06, high_m=0.2),
}
_SIM_MARKS: dict[TaskName, tuple[Marked, Marked | None]] = {
    "reach": ((49.0, 70.0, 4.0), (174.0, 185.0, 4.0)),
    "pick": ((66.0, 111.0, 3.0), None),
}
_SIM_MARKS_SIZE_PX = 224
"""Side of the image that the marks above were read from."""


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig(OutputFlags):
    """Calibrates camera, colours and workspace of one robot at one task."""

    robot: Literal["sim"] = "sim"
    """Which robot. In simulation the object is put between the fingers by itself."""
    sim: SimConfig = field(default_factory=SimConfig)
    """The simulated workspace; its task decides what is calibrated for."""
    out: Path = Path("runs/calibration")
    """Folder for `calibration.toml` and the pictures."""
    held_mark: Marked | None = None
    """Patch of the object in the first picture: column, row, radius in pixels. In simulation one is
    known; elsewhere run once without, and read it off `first.png`."""
    target_mark: Marked | None = None
    """Patch of the target in the first picture, for reach."""
    grid: Grid | None = None
    """Where to go; none is the task's usual grid."""
    intrinsics: Intrinsics | None = None
    """Of the lens, as its maker measured them; none finds the focal length too."""
    max_error_px: float = 1.0
    """A calibration with a greater reprojection error is not written."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_error_px) and self.max_error_px > 0):
            raise ValueError(f"max_error_px must be positive, got {self.max_error_px}")


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


def main(argv: Sequence[str]) -> int:
    """Calibrates; 3 where something has to be marked or put right first."""
    settings = config.load(CalibrateConfig, argv, prog="offworld calibrate")
    found = calibrate(settings)
    path = settings.out / CALIBRATION_FILE
    write_aside(path, to_toml(found.calibration))
    report(found, path, is_json=settings.json)
    return ExitCode.DONE


def calibrate(settings: CalibrateConfig) -> Fit:
    """Moves the arm, saves the pictures and returns what was found.

    Raises:
        CannotStart: No mark is known, or what was found is too far off to be used.
        CalibrationError: Nothing can be found; the message says why.
        RobotFault: The arm or the camera failed.
    """
    limits = settings.sim.limits
    grid = settings.grid or GRIDS[settings.sim.task]
    points_m = grid.points_m(limits.box_low_m, limits.box_high_m)
    held, target = _marks(settings)
    views: list[View] = []
    with (
        simulated(settings.sim, points_m[0]) as bench,
        console.bar("calibration views", len(points_m), is_quiet=settings.json) as bar,
    ):
        for view in visit(bench.arm, bench.camera, bench.clock, points_m, bench.opening):
            views.append(view)
            bar.update(len(views), "")
            if len(views) == 1:
                first = view.frame.image
                marked = draw.draw_marks(first, [m for m in (held, target) if m is not None])
                draw.save(settings.out / FIRST_PICTURE, draw.with_rulers(marked))
                if held is None:
                    raise CannotStart(
                        f"read where the object is off {settings.out / FIRST_PICTURE} and give "
                        "--held-mark COLUMN ROW RADIUS, for reach --target-mark too"
                    )
    assert held is not None
    found = fit(
        views,
        camera_name=bench.camera.name,
        held_mark=held,
        target_mark=target,
        centre_from_tool_m=bench.centre_from_tool_m,
        held_height_m=bench.held_height_m,
        box_low_m=limits.box_low_m,
        box_high_m=limits.box_high_m,
        intrinsics=settings.intrinsics,
    )
    draw.save(settings.out / GRID_PICTURE, draw.draw_fit(views[0].frame.image, found))
    if found.calibration.error_px > settings.max_error_px:
        raise CannotStart(
            f"the reprojection error is {found.calibration.error_px:.2f} pixels, more than "
            f"{settings.max_error_px:g}: look at {settings.out / GRID_PICTURE}; did the object "
            "move in the gripper, or the camera?"
        )
    return found


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
        )
    finally:
        camera.close()
        arm.close()


def report(found: Fit, path: Path, *, is_json: bool) -> None:
    """Says what was found."""
    calibration = found.calibration
    answer = {
        "file": str(path),
        "num_views": calibration.num_views,
        "error_px": calibration.error_px,
        "max_error_px": float(found.errors_px.max()),
        "error_mm": 1e3 * calibration.error_m,
        "camera_m": [round(float(n), 4) for n in calibration.camera.position_m],
        "focal_px": list(calibration.camera.focal_px),
    }
    if is_json:
        console.emit_json(answer)
        return
    x, y, z = np.round(calibration.camera.position_m, 3)
    console.say(
        f"reprojection error {calibration.error_px:.2f} px rms ({1e3 * calibration.error_m:.1f} mm "
        f"in the box), at most {found.errors_px.max():.2f} px, over {calibration.num_views} views"
    )
    console.say(
        f"camera {calibration.camera_name} at x {x} y {y} z {z} m, focal length "
        f"{calibration.camera.focal_px[0]:.0f} px"
    )
    console.say(f"written: {path}, with {FIRST_PICTURE} and {GRID_PICTURE} beside it")


def _marks(settings: CalibrateConfig) -> tuple[Mark | None, Mark | None]:
    held, target = settings.held_mark, settings.target_mark
    if held is None and target is None:
        held, target = _SIM_MARKS[settings.sim.task]
        scale = settings.sim.render_size / _SIM_MARKS_SIZE_PX
        return _mark(held, scale), _mark(target, scale)
    if settings.sim.task == "reach" and (held is None or target is None):
        raise CannotStart("reach needs both --held-mark and --target-mark")
    return _mark(held), _mark(target)


def _mark(marked: Marked | None, scale: float = 1.0) -> Mark | None:
    if marked is None:
        return None
    column, row, radius = (scale * number for number in marked)
    return Mark(column_px=column, row_px=row, radius_px=max(radius, 1.5))
