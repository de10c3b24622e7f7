"""What a real arm's workstation is asked: its files, the arm as it is, every camera's rate.

Nothing here moves the arm, changes a setting of it or takes it from whoever has it: the controller
is read over one more connection. Where an actor or a guard holds the folder it is left alone with
its arm and cameras, and that is said; otherwise the folder is held as an actor would hold it, so
that none starts in the middle.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from learner.durable import FolderLock, StoreLocked
from robot.camera_address import parse_camera
from robot.clock import MonotonicClock
from robot.interfaces import Camera, RobotFault
from robot.xarm_config import XArmConfig
from services.actor_cell import check_cell, open_camera
from services.actor_config import ActorConfig
from services.checkup.finding import Finding, attempt, go, judged, no_go, not_asked
from services.config import ConfigError
from services.guard import FAULT_FILE, LOCK_FILE, read_limits

CAMERA_CODES = {
    "camera_missing": "plug it in, at a USB 3 port, or correct the serial number in `camera`",
    "camera_mode": "set cell.stream to a mode it offers, and calibrate at that size",
    "camera_setting": "correct cell.stream as the message says",
}
_LOOK_NS = 2_000_000
_RATE_KEPT = 0.9


def cell(actor: ActorConfig, seconds: float) -> Iterator[Finding]:
    """Looks at everything that a real arm needs.

    Args:
        actor: Of a real arm.
        seconds: How long every camera is watched.
    """
    names = ["arm", "fence", *(f"camera {parse_camera(text).name}" for text in actor.camera)]
    if actor.is_simulated:
        yield from (not_asked(name, "the robot is simulated") for name in names)
        return
    rows = list(attempt("cell", lambda: _files(actor), "correct the file that the message names"))
    yield from rows
    if any(row.verdict == "no-go" for row in rows):
        yield from (not_asked(name, "the cell's files come first") for name in names)
        return
    with contextlib.ExitStack() as held:
        try:
            _hold(actor, held)
        except (StoreLocked, OSError) as error:
            yield from (not_asked(name, f"left alone: {error}") for name in names)
            return
        yield from _arm(arm_config(actor))
        for text in actor.camera:
            name = f"camera {parse_camera(text).name}"
            yield from _camera(actor, text, name, seconds)


def arm_config(actor: ActorConfig) -> XArmConfig:
    """Returns what this actor's guard would hold its arm to; ConfigError if that is no xArm."""
    assert actor.limits is not None, "check_cell comes first"
    xarm = read_limits(actor.limits).xarm
    if xarm is None:
        raise ConfigError(f"{actor.limits}: there is no [xarm] in here")
    return xarm if actor.ip is None else dataclasses.replace(xarm, ip=actor.ip)


def _files(actor: ActorConfig) -> Iterator[Finding]:
    check_cell(actor)
    arm_config(actor)
    yield go("cell", f"{actor.limits}, {actor.calibration} and the actor's file fit together")
    fault = actor.spool / "run" / FAULT_FILE
    yield judged(
        "fault",
        f"{fault} is there" if fault.exists() else "none is latched",
        f"see to the arm, then `offworld actor ack --spool {actor.spool}`",
        is_good=not fault.exists(),
    )


def _hold(actor: ActorConfig, held: contextlib.ExitStack) -> None:
    """Holds the actor's folder; StoreLocked if somebody has it. One never used needs no holding."""
    run = actor.spool / "run"
    if not run.is_dir():
        return
    for file in ("actor.lock", LOCK_FILE):
        held.callback(FolderLock(run / file, f"the arm of {run}").release)


def _arm(xarm: XArmConfig) -> Iterator[Finding]:
    from robot.xarm_inspection import inspect_arm

    try:
        seen = inspect_arm(xarm)
    except RobotFault as fault:
        todo = {
            "firmware_too_old": "update the controller's firmware with the vendor's program",
            "sdk_missing": "pip install 'offworld[robot]'",
            "not_connected": "check the arm's power, its cable and `ip`; ping it",
        }.get(fault.code, "look at the arm with the vendor's program and clear what it shows")
        yield no_go("arm", str(fault), todo)
        yield not_asked("fence", "the arm comes first")
        return
    serial = f", serial {seen.serial}" if seen.serial else ""
    yield judged(
        "arm",
        f"{xarm.ip} answers, firmware {seen.firmware}{serial}"
        + (", and it is moving" if seen.is_moving else ""),
        "another program drives it: end that one first",
        is_good=not seen.is_moving,
    )
    if seen.outside is not None:
        yield no_go("fence", str(seen.outside), "move the tool inside with the vendor's program")
        return
    other = [s for s in seen.settings if not s.is_kept]
    told = "; ".join(f"{s.name} is {list(s.found)}, not {list(s.wished)}" for s in other)
    yield judged(
        "fence",
        f"{told} (vendor's units)"
        if other
        else "fence, speed limit and tool are the limits file's",
        "the guard writes these whenever it starts; a controller forgets them when it restarts "
        "unless they were saved with the vendor's program. If an actor ran since, something else "
        "has changed them: find out what",
        is_good=not other,
    )


def _camera(actor: ActorConfig, text: str, name: str, seconds: float) -> Iterator[Finding]:
    fps = actor.cell.stream.fps
    try:
        camera = open_camera(actor, parse_camera(text), MonotonicClock())
        try:
            found = _rate_hz(camera, seconds)
        finally:
            camera.close()
    except ImportError as error:
        yield no_go(name, str(error), "pip install 'offworld[robot]'")
        return
    except RobotFault as fault:
        again = "check its cable and its port; unplug it and plug it in again"
        yield no_go(name, str(fault), CAMERA_CODES.get(fault.code, again))
        return
    yield judged(
        name,
        f"{text.rpartition('=')[0]} at {actor.cell.stream.width}x{actor.cell.stream.height}: "
        f"{found:.1f} frames a second measured, {fps} asked",
        "use a USB 3 port of its own, fix exposure_s below 1/fps (automatic exposure halves the "
        "rate in low light), or ask for fewer frames in cell.stream.fps",
        is_good=found >= _RATE_KEPT * fps,
    )


def _rate_hz(camera: Camera, seconds: float) -> float:
    """Returns how many new pictures came a second, by when they were taken."""
    clock = MonotonicClock()
    first = newest = camera.read()
    num, until_ns = 0, clock.now_ns() + round(seconds * 1e9)
    while (now_ns := clock.now_ns()) < until_ns:
        frame = camera.read()
        if frame.frame_number != newest.frame_number:
            num, newest = num + 1, frame
        clock.sleep_until_ns(now_ns + _LOOK_NS)
    # One that has stopped in the middle is slow, however quick it was before.
    passed_ns = max(newest.t_ns - first.t_ns, until_ns - first.t_ns - round(1e9 * seconds / 5))
    return num / (passed_ns / 1e9)
