"""A real arm for a person's command instead of a loop: behind a guard of its own, one camera.

The actor's folder is held meanwhile, so that no actor has the same arm, and every motion goes
through the guard, which is started here and ended here. A key that is pressed meanwhile stops it.
SIGTERM, and SIGHUP of a terminal that hangs up, end it in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robot.camera_address import CameraAddress, parse_camera
from robot.camera_model import Intrinsics
from robot.cell import gate_limits
from robot.clock import Clock, MonotonicClock
from robot.guard_limits import GuardLimits
from robot.guard_link import SocketLink
from robot.guarded_arm import GuardedArm
from robot.interfaces import Camera, KnownCamera
from services.actor_cell import check_cell, open_camera
from services.actor_config import ActorConfig
from services.actor_folder import ActorFolder
from services.guard import SOCKET_FILE, read_limits
from services.kept_guard import KeptGuard
from services.operator_desk import stop_through_guard
from services.process import CannotStart, be_urgent, interrupt
from services.stop_keys import StopKeys

PERIOD_S = 0.05
"""Between two commands."""
_GUARD_S = 60.0


@dataclass(frozen=True, kw_only=True)
class CellBench:
    """An arm that may move, and a camera that shows frames."""

    arm: GuardedArm
    camera: Camera
    clock: Clock
    limits: GuardLimits
    keys: StopKeys
    """Of the person who watches; questions go through them."""


def choose_camera(actor: ActorConfig, name: str | None) -> CameraAddress:
    """Returns the camera of this name, or the only one for None; CannotStart without it."""
    known = {address.name: address for address in map(parse_camera, actor.camera)}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        raise CannotStart(
            f"which camera? --camera-name, one of {', '.join(known) or 'none: give `camera`'}"
        )
    return known[name]


def limits_file(actor: ActorConfig) -> Path:
    """Returns the file of what the arm is held to; CannotStart if none is given."""
    if actor.limits is None:
        raise CannotStart("a real arm needs `limits` in the actor's file")
    return actor.limits


@contextlib.contextmanager
def cell_bench(actor: ActorConfig, camera_name: str | None) -> Iterator[CellBench]:
    """Yields the arm behind its guard, where it stands; afterwards it is let go of, unmoved.

    Args:
        actor: Of the cell; its folder is held, its calibration not needed.
        camera_name: Which camera; None for the only one.

    Raises:
        CannotStart: An actor works there, something is missing, or the guard cannot start; its log
            says why.
        ConfigError: The limits cannot be used, or do not fit the cell and its cameras.
        RobotFault: The camera shows nothing, or the guard refuses.
    """
    address, file = choose_camera(actor, camera_name), limits_file(actor)
    check_cell(actor, is_calibrated=False)
    limits, clock = read_limits(file, actor.ip), MonotonicClock()
    with contextlib.ExitStack() as ending:
        for number in (signal.SIGTERM, signal.SIGHUP):
            ending.callback(signal.signal, number, signal.signal(number, interrupt))
        folder = ending.enter_context(ActorFolder(actor.spool))
        camera = open_camera(actor, address, clock)
        ending.callback(camera.close)
        # The arm does not move before the camera has shown something.
        camera.read()
        guard = KeptGuard(folder, file, actor.ip)
        ending.callback(guard.stop)
        guard.wait_until_serving(_GUARD_S, should_stop=lambda: False)
        keys = ending.enter_context(StopKeys(lambda: stop_through_guard(folder.run)))
        # As a loop is: a guard that hears nothing stops the arm.
        ending.callback(os.setpriority, os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
        be_urgent(actor.niceness)
        arm = GuardedArm(
            lambda: SocketLink(folder.run / SOCKET_FILE),
            clock,
            period_ns=round(PERIOD_S * 1e9),
            limits=gate_limits(limits),
        )
        arm.connect()
        ending.callback(arm.close)
        ending.callback(arm.rest)
        yield CellBench(arm=arm, camera=camera, clock=clock, limits=limits, keys=keys)


def lens_of(camera: Camera) -> Intrinsics | None:
    """Returns the lens as a camera says it, if its pictures are not distorted."""
    if not isinstance(camera, KnownCamera):
        return None
    lens = camera.facts.intrinsics
    if any(lens.distortion):
        return None
    return Intrinsics(focal_px=(lens.fx_px, lens.fy_px), centre_px=(lens.ppx_px, lens.ppy_px))


def serial_of(camera: Camera) -> str:
    """Returns the serial number a camera says it has, empty where it says none."""
    return camera.facts.serial if isinstance(camera, KnownCamera) else ""
