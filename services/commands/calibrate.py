"""`offworld calibrate`: where the camera stands and what the objects look like, by moving the arm.

The arm carries the object over a grid of points. What comes out is a file that detectors read
(`--calibration` of `offworld data score`), and pictures to check it by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from robot.calibrating import Fit, Mark, check_marks, fit
from robot.calibration_views import Grid, View, visit
from robot.camera_model import Intrinsics
from robot.detectors import draw
from robot.interfaces import StartPose
from robot.sim.config import SimConfig
from robot.task_config import TaskName
from services import config, console
from services.actor_config import ActorConfig
from services.calibration_bench import Bench, Point, simulated
from services.cell_bench import PERIOD_S as CELL_PERIOD_S
from services.cell_bench import cell_bench, lens_of, serial_of
from services.commands.flags import OutputFlags
from services.config_text import to_toml
from services.process import CannotStart, ExitCode, write_aside

CALIBRATION_FILE = "calibration.toml"
FIRST_PICTURE = "first.png"
GRID_PICTURE = "grid.png"
REFUSED_PICTURE = "grid-refused.png"
Marked = tuple[float, float, float]

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
_OPEN = 1.0


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig(OutputFlags):
    """Calibrates camera, colours and workspace of one robot at one task."""

    robot: Literal["sim", "xarm7"] = "sim"
    """Which robot. In simulation the object is put between the fingers by itself; `xarm7` opens
    the gripper at the limits' start pose and asks for it."""
    actor_config: Path | None = None
    """The actor's file of a real arm: its limits, its cameras, its task. Its actor must not run."""
    camera_name: str | None = None
    """Which of the cell's cameras; none for the only one."""
    is_held: bool = False
    """The object is between the fingers of the real arm already: ask nothing."""
    opening: float | None = None
    """Of the real gripper around the object; none for that of the limits' start pose."""
    centre_from_tool_m: Point | None = None
    """Middle of the object from the tool centre point, by the ruler; for a real arm."""
    held_height_m: float | None = None
    """How tall the object is, by the ruler; for a real arm."""
    target_side_m: float | None = None
    """Side of the target, by the ruler, or of a square as large; for a real arm at reach. What is
    seen of it is compared. In simulation none takes the scene's."""
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
    """Of the lens, as its maker measured them; none takes those that a real camera says without
    distortion, and else finds the focal length too."""
    max_error_px: float = 1.0
    """A calibration with a greater reprojection error is not written."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_error_px) and self.max_error_px > 0):
            raise ValueError(f"max_error_px must be positive, got {self.max_error_px}")
        if self.target_side_m is not None and not 0 < self.target_side_m < 1:
            raise ValueError(f"target_side_m must be 0 .. 1 metre, got {self.target_side_m}")


def main(argv: Sequence[str]) -> int:
    """Calibrates; 3 where something has to be marked or put right first."""
    settings = config.load(CalibrateConfig, argv, prog="offworld calibrate")
    report(calibrate(settings), settings.out / CALIBRATION_FILE, is_json=settings.json)
    return ExitCode.DONE


def calibrate(settings: CalibrateConfig) -> Fit:
    """Moves the arm, writes the file and the pictures, and returns what was found.

    What is refused leaves a calibration of before as it was, with the picture that belongs to it.

    Raises:
        CannotStart: No mark is known, or what was found is too far off to be used.
        CalibrationError: Nothing can be found; the message says why.
        RobotFault: The arm or the camera failed.
    """
    views: list[View] = []
    with _bench(settings) as bench:
        points_m = _grid(settings, bench.task).points_m(bench.box_low_m, bench.box_high_m)
        held, target = _marks(settings, bench.task)
        for view in _visit(bench, points_m, is_quiet=settings.json):
            views.append(view)
            if len(views) == 1:
                first = view.frame.image
                marked = draw.draw_marks(first, [m for m in (held, target) if m is not None])
                draw.save(settings.out / FIRST_PICTURE, draw.with_rulers(marked))
                if held is None:
                    raise CannotStart(
                        f"read where the object is off {settings.out / FIRST_PICTURE} and give "
                        "--held-mark COLUMN ROW RADIUS, for reach --target-mark too"
                    )
                # Before the arm makes its way over the grid.
                check_marks(first, held, target)
    assert held is not None
    found = fit(
        views,
        camera_name=bench.camera.name,
        camera_serial=bench.camera_serial,
        held_mark=held,
        target_mark=target,
        centre_from_tool_m=bench.centre_from_tool_m,
        held_height_m=bench.held_height_m,
        box_low_m=bench.box_low_m,
        box_high_m=bench.box_high_m,
        intrinsics=settings.intrinsics or bench.intrinsics,
        target_side_m=settings.target_side_m or bench.target_side_m,
    )
    picture = settings.out / REFUSED_PICTURE
    draw.save(picture, draw.draw_fit(views[0].frame.image, found))
    if found.calibration.error_px > settings.max_error_px:
        raise CannotStart(
            f"the reprojection error is {found.calibration.error_px:.2f} pixels, more than "
            f"{settings.max_error_px:g}: look at {picture}; did the object move in the gripper, or "
            "the camera?"
        )
    write_aside(settings.out / CALIBRATION_FILE, to_toml(found.calibration))
    picture.replace(settings.out / GRID_PICTURE)
    return found


def _bench(settings: CalibrateConfig) -> AbstractContextManager[Bench]:
    if settings.robot == "sim":
        limits = settings.sim.limits
        points_m = _grid(settings, settings.sim.task).points_m(limits.box_low_m, limits.box_high_m)
        return simulated(settings.sim, points_m[0])
    if settings.actor_config is None:
        raise CannotStart("a real arm needs --actor-config FILE")
    return at_the_arm(settings, config.build_file(ActorConfig, settings.actor_config))


def _grid(settings: CalibrateConfig, task: TaskName) -> Grid:
    return settings.grid or GRIDS[task]


def _visit(bench: Bench, points_m: Sequence[Point], *, is_quiet: bool) -> Iterator[View]:
    with console.bar("calibration views", len(points_m), is_quiet=is_quiet) as bar:
        views = visit(
            bench.arm, bench.camera, bench.clock, points_m, bench.opening, period_s=bench.period_s
        )
        for number, view in enumerate(views, 1):
            bar.update(number, "")
            yield view


@contextmanager
def at_the_arm(settings: CalibrateConfig, actor: ActorConfig) -> Iterator[Bench]:
    """Yields the real arm with the object in its gripper, at the limits' start pose.

    Args:
        settings: What the ruler says of the object, and whether it is there already.
        actor: Of the cell.

    Raises:
        CannotStart: Something is not said, an actor works there, or the guard does not start.
        RobotFault: The arm or the camera failed.
    """
    centre, height = settings.centre_from_tool_m, settings.held_height_m
    if centre is None or height is None:
        raise CannotStart("a real arm needs --centre-from-tool-m X Y Z and --held-height-m")
    if actor.cell.task == "reach" and settings.target_side_m is None:
        raise CannotStart("a real arm at reach needs --target-side-m, the target's by the ruler")
    with cell_bench(actor, settings.camera_name) as cell:
        limits, start = cell.limits, cell.limits.start
        # A grid that cannot be is refused before anything moves.
        _grid(settings, actor.cell.task).points_m(limits.box_low_m, limits.box_high_m)
        opening = start.gripper_opening if settings.opening is None else settings.opening
        if opening >= _OPEN:
            raise CannotStart(
                f"a gripper opened to {opening:g}, as at the limits' start, holds nothing: give "
                "--opening, from 0 (closed) to 1, somewhat less than the object is wide"
            )
        if not settings.is_held:
            cell.arm.reset(StartPose(position_m=start.position_m, gripper_opening=_OPEN))
            cell.keys.ask(
                "put the object between the fingers, on a block if need be, take your hands away "
                "and press Enter: they close on it"
            )
        cell.arm.reset(StartPose(position_m=start.position_m, gripper_opening=opening))
        if not settings.is_held:
            cell.keys.ask(
                "take away what it stood on, hands out of the cell, and press Enter: the arm "
                "carries it through the box"
            )
        yield Bench(
            arm=cell.arm,
            camera=cell.camera,
            clock=cell.clock,
            opening=opening,
            centre_from_tool_m=centre,
            held_height_m=height,
            target_side_m=settings.target_side_m,
            task=actor.cell.task,
            box_low_m=limits.box_low_m,
            box_high_m=limits.box_high_m,
            period_s=CELL_PERIOD_S,
            intrinsics=lens_of(cell.camera),
            camera_serial=serial_of(cell.camera),
        )


def report(found: Fit, path: Path, *, is_json: bool) -> None:
    """Says what was found."""
    calibration = found.calibration
    if is_json:
        console.emit_json({"file": str(path), **found.summary()})
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
    if calibration.target is not None:
        console.say(
            f"target as large as a square of {1e3 * calibration.target.side_m:.1f} mm: compare it "
            "with the ruler"
        )
    console.say(f"written: {path}, with {FIRST_PICTURE} and {GRID_PICTURE} beside it")


def _marks(settings: CalibrateConfig, task: TaskName) -> tuple[Mark | None, Mark | None]:
    held, target = settings.held_mark, settings.target_mark
    if settings.robot == "xarm7" and held is None:
        return None, _mark(target)
    if held is None and target is None:
        held, target = _SIM_MARKS[settings.sim.task]
        scale = settings.sim.render_size / _SIM_MARKS_SIZE_PX
        return _mark(held, scale), _mark(target, scale)
    if task == "reach" and (held is None or target is None):
        raise CannotStart("reach needs both --held-mark and --target-mark")
    return _mark(held), _mark(target)


def _mark(marked: Marked | None, scale: float = 1.0) -> Mark | None:
    if marked is None:
        return None
    column, row, radius = (scale * number for number in marked)
    return Mark(column_px=column, row_px=row, radius_px=max(radius, 1.5))
