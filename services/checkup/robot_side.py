"""What a real arm's workstation is asked: its files, the arm as it is, every camera's rate.

Nothing here moves the arm, changes a setting of it or takes it from whoever has it: the controller
is read over one more connection. Where an actor or a guard holds the folder it is left alone with
its arm and cameras, and that is said; otherwise the folder is held as an actor would hold it, so
that none starts in the middle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from learner.durable import FolderLock, StoreFull, StoreLocked
from robot.camera_address import parse_camera
from robot.clock import MonotonicClock
from robot.interfaces import Camera, Frame, RobotFault
from robot.xarm_config import XArmConfig
from robot.xarm_settings import Setting
from services.actor_cell import check_cell, open_camera
from services.actor_config import ActorConfig
from services.checkup.finding import Finding, attempt, go, judged, left_alone, no_go, not_asked
from services.config import ConfigError
from services.guard import FAULT_FILE, LOCK_FILE, read_limits

CAMERA_CODES = {
    "camera_missing": "plug it in, at a USB 3 port, or correct the serial number in `camera`",
    "camera_mode": "set cell.stream to a mode it offers, and calibrate at that size",
    "camera_setting": "correct cell.stream as the message says",
}
OPTIONAL = ("calibration", "fence")
"""Rows that can be left out: neither is there before an arm has moved for the first time."""
_LEFT_OUT = "left out with --skip"
_USABLE = (
    "run all of it as one user: give that one the folder (`chown -R`), on a disk that has room and "
    "can be written to"
)
_LOOK_NS = 2_000_000
_RATE_KEPT = 0.9


def cell(actor: ActorConfig, seconds: float, skip: Collection[str] = ()) -> Iterator[Finding]:
    """Looks at everything that a real arm needs.

    Args:
        actor: Of a real arm.
        seconds: How long the cameras are watched, all at once.
        skip: Which of `OPTIONAL` to leave out.
    """
    names = [
        "arm",
        "mount",
        "place",
        "fence",
        *(f"camera {parse_camera(text).name}" for text in actor.camera),
    ]
    if actor.is_simulated:
        yield from (not_asked(name, "the robot is simulated") for name in names)
        return
    rows = list(attempt("cell", lambda: _files(actor), "correct the file that the message names"))
    rows += attempt("fault", lambda: _fault(actor), _USABLE)
    yield from rows
    if "calibration" in skip:
        yield not_asked("calibration", _LEFT_OUT)
    elif rows[0].verdict == "go":
        todo = "calibrate as deploy/first-trials.md says; until then --skip calibration"
        yield from attempt("calibration", lambda: _calibration(actor), todo)
    if any(row.verdict == "no-go" for row in rows):
        yield from (not_asked(name, "the cell's files come first") for name in names)
        return
    with contextlib.ExitStack() as held:
        try:
            _hold(actor, held)
        except StoreLocked as error:
            yield from (left_alone(name, str(error)) for name in names)
            return
        except (StoreFull, OSError) as error:
            folder = actor.spool / "run"
            yield no_go("folder", f"this user cannot use the folder {folder}: {error}", _USABLE)
            yield from (not_asked(name, "the actor's folder comes first") for name in names)
            return
        yield from _arm(arm_config(actor), is_fence_asked="fence" not in skip)
        yield from _cameras(actor, seconds)


def arm_config(actor: ActorConfig) -> XArmConfig:
    """Returns what this actor's guard would hold its arm to; ConfigError if that is no xArm."""
    assert actor.limits is not None, "check_cell comes first"
    xarm = read_limits(actor.limits, actor.ip).xarm
    if xarm is None:
        raise ConfigError(f"{actor.limits}: there is no [xarm] in here")
    return xarm


def _files(actor: ActorConfig) -> Iterator[Finding]:
    check_cell(actor, is_calibrated=False)
    arm_config(actor)
    yield go("cell", f"{actor.limits} and the actor's file fit together")


def _fault(actor: ActorConfig) -> Iterator[Finding]:
    fault = actor.spool / "run" / FAULT_FILE
    yield judged(
        "fault",
        f"{fault} is there" if fault.exists() else "none is latched",
        f"see to the arm, then `offworld actor ack --spool {actor.spool}`",
        is_good=not fault.exists(),
    )


def _calibration(actor: ActorConfig) -> Iterator[Finding]:
    check_cell(actor)
    yield go("calibration", f"{actor.calibration} fits camera and task")


def _hold(actor: ActorConfig, held: contextlib.ExitStack) -> None:
    """Holds the actor's folder, if it was ever used.

    Raises:
        StoreLocked: Somebody has it.
        StoreFull: There is no room for its locks.
        OSError: This user may not hold it.
    """
    run = actor.spool / "run"
    if not run.is_dir():
        return
    for file in ("actor.lock", LOCK_FILE):
        held.callback(FolderLock(run / file, f"the arm of {run}").release)


def _arm(xarm: XArmConfig, *, is_fence_asked: bool) -> Iterator[Finding]:
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
        yield from (not_asked(n, "the arm comes first") for n in ("mount", "place", "fence"))
        return
    serial = f", serial {seen.serial}" if seen.serial else ""
    yield judged(
        "arm",
        f"{xarm.ip} answers, firmware {seen.firmware}{serial}"
        + (", and it is moving" if seen.is_moving else ""),
        "another program drives it: end that one first",
        is_good=not seen.is_moving,
    )
    other = _in_words(seen.mount)
    yield judged(
        "mount",
        other or "base offset, gravity, simulation and rebound are as switched on",
        "somebody has set these, and the guard refuses to start with them: set them back with the "
        "vendor's program, or mount the arm upright",
        is_good=not other,
    )
    if seen.outside is not None:
        yield no_go("place", str(seen.outside), "move the tool inside with the vendor's program")
    else:
        yield go("place", "the tool is inside the limits file's fence")
    if not is_fence_asked:
        yield not_asked("fence", _LEFT_OUT)
        return
    other = _in_words(seen.settings)
    yield judged(
        "fence",
        other or "fence, speed limit and tool are the limits file's",
        "the guard writes these whenever it starts; a controller forgets them when it restarts "
        "unless they were saved with the vendor's program: --skip fence before the first start. If "
        "an actor ran since, something else has changed them: find out what",
        is_good=not other,
    )


def _in_words(settings: Sequence[Setting]) -> str:
    """Returns which settings are not as they should be; empty for none."""
    told = [f"{s.name} is {list(s.found)}, not {list(s.wished)}" for s in settings if not s.is_kept]
    return f"{'; '.join(told)} (vendor's units)" if told else ""


def _cameras(actor: ActorConfig, seconds: float) -> Iterator[Finding]:
    """Watches all cameras at once, as an actor does: they may share a controller's bandwidth."""
    texts = {f"camera {parse_camera(text).name}": text for text in actor.camera}
    watches: list[_Watch] = []
    failed: dict[str, Finding] = {}
    with contextlib.ExitStack() as opened:
        for name, text in texts.items():
            with _told(name, failed):
                camera = open_camera(actor, parse_camera(text), MonotonicClock())
                opened.callback(camera.close)
                watches.append(_Watch(name, camera))
        _watch(watches, failed, seconds)
    stream, rates_hz = actor.cell.stream, {watch.name: watch.rate_hz(seconds) for watch in watches}
    for name, text in texts.items():
        if name in failed:
            yield failed[name]
            continue
        yield judged(
            name,
            f"{text.rpartition('=')[0]} at {stream.width}x{stream.height}: "
            f"{rates_hz[name]:.1f} frames a second measured, {stream.fps} asked"
            + (f", {len(texts)} cameras at once" if len(texts) > 1 else ""),
            "use a USB 3 port of its own, at a controller of its own for a third camera, fix "
            "exposure_s below 1/fps (automatic exposure halves the rate in low light), or ask for "
            "fewer frames in cell.stream.fps",
            is_good=rates_hz[name] >= _RATE_KEPT * stream.fps,
        )


class _Watch:
    """Counts the new pictures of one camera."""

    def __init__(self, name: str, camera: Camera) -> None:
        self.name, self._camera = name, camera
        self._first: Frame | None = None
        self._newest: Frame | None = None
        self._num = 0

    def look(self) -> None:
        """Takes note of what it shows; the first time, waits for the first picture."""
        frame, newest = self._camera.read(), self._newest
        if newest is None:
            self._first = frame
        elif frame.frame_number != newest.frame_number:
            self._num += 1
        self._newest = frame

    def start(self) -> None:
        """Counts from now on."""
        self._newest, self._num = None, 0
        self.look()

    def rate_hz(self, seconds: float) -> float:
        """Returns how many new pictures came a second, by when they were taken."""
        if self._first is None or self._newest is None:
            return 0.0
        # One that has stopped in the middle is slow, however quick it was before.
        passed_ns = max(self._newest.t_ns - self._first.t_ns, round(0.8e9 * seconds))
        return self._num / (passed_ns / 1e9)


def _watch(watches: Sequence[_Watch], failed: dict[str, Finding], seconds: float) -> None:
    clock = MonotonicClock()
    for step in (_Watch.look, _Watch.start):
        for watch in watches:
            if watch.name not in failed:
                with _told(watch.name, failed):
                    step(watch)
    until_ns = clock.now_ns() + round(seconds * 1e9)
    while (now_ns := clock.now_ns()) < until_ns:
        for watch in watches:
            if watch.name not in failed:
                with _told(watch.name, failed):
                    watch.look()
        clock.sleep_until_ns(now_ns + _LOOK_NS)


@contextlib.contextmanager
def _told(name: str, failed: dict[str, Finding]) -> Iterator[None]:
    """Makes a row of what keeps a camera from being watched."""
    try:
        yield
    except ImportError as error:
        failed[name] = no_go(name, str(error), "pip install 'offworld[robot]'")
    except RobotFault as fault:
        again = "check its cable and its port; unplug it and plug it in again"
        failed[name] = no_go(name, str(fault), CAMERA_CODES.get(fault.code, again))
