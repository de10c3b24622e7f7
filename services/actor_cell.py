"""A real xArm 7 as an actor drives it: behind its guard, seen by RealSense cameras.

The arm's address and all that it is held to stand in the limits file, the guard's. The loop reads
it too, for its own gate: the guard refuses a loop that would go further.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from robot.calibration import Calibration
from robot.camera_address import CameraAddress, parse_camera
from robot.cell import CellTask, gate_limits
from robot.clock import Clock
from robot.detectors.make import make_detector
from robot.env import RobotEnv
from robot.frames import FrameLimits
from robot.guard_link import SocketLink
from robot.guarded_arm import GuardedArm
from robot.interfaces import Camera, Reward
from robot.lookout import Lookout
from robot.safety import SafetyGate
from services.actor_config import ActorConfig
from services.address import is_loopback_host
from services.config import ConfigError, build_file
from services.guard import SOCKET_FILE, read_limits


def check_cell(config: ActorConfig, *, is_calibrated: bool = True) -> None:
    """Checks, without touching arm or cameras, that all is there that a real arm needs.

    Args:
        config: Of a real arm.
        is_calibrated: Ask for the calibration too.

    Raises:
        ConfigError: Something is missing or does not fit together; the message names it.
    """
    missing = [
        flag
        for flag, value in (
            ("--camera SERIAL=NAME", config.camera),
            ("--limits FILE", config.limits),
            ("--calibration FILE", config.calibration or not is_calibrated),
        )
        if not value
    ]
    if missing:
        raise ConfigError(f"robot {config.robot!r} needs {', '.join(missing)}")
    if config.pace != "real":
        raise ConfigError(f"robot {config.robot!r} needs --pace real, got {config.pace!r}")
    limits = read_limits(_given(config.limits), config.ip)
    if limits.xarm is not None:
        _check_cameras(config, limits.xarm.ip)
    period_s = 1.0 / config.cell.control_hz
    if excess := limits.excess_of(period_s, gate_limits(limits)):
        raise ConfigError(f"{config.limits}: {'; '.join(excess)}")
    try:
        CellTask(limits, config.cell.start_margin_m)
        if is_calibrated:
            _check_calibration(config)
            detector_of(config)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"cell: {error}") from error


def _check_cameras(config: ActorConfig, ip: str) -> None:
    """Refuses a real arm that would be driven by what its cameras do not see now."""
    if is_loopback_host(ip):
        return
    for text in config.camera:
        address = parse_camera(text)
        what = "the feed of a simulated world" if address.recording is None else "a recording"
        if address.serial is None:
            raise ConfigError(
                f"camera: expected cameras that see the arm at {ip}, SERIAL=NAME, got {text!r}: "
                f"{what} is for a controller on this machine, at 127.0.0.1. Give the camera's "
                "serial number, or the address of a double"
            )


def _check_calibration(config: ActorConfig) -> None:
    cameras, calibration = _cameras(config), _calibration(config)
    name, serial = calibration.camera_name, calibration.camera_serial
    address = next((camera for camera in cameras if camera.name == name), None)
    if address is None:
        raise ConfigError(
            f"{config.calibration}: made for camera {name!r}, there "
            f"is {', '.join(camera.name for camera in cameras)}"
        )
    if serial and address.serial not in (None, serial):
        raise ConfigError(
            f"{config.calibration}: made with the camera of serial number {serial}, but {name!r} "
            f"is {address.serial}: swap the names in --camera if they are mixed up, or calibrate "
            "again"
        )
    stream, model = config.cell.stream, calibration.camera
    if (stream.width, stream.height) != (model.width_px, model.height_px):
        raise ConfigError(
            f"{config.calibration}: made at {model.width_px}x{model.height_px}, cell.stream is "
            f"{stream.mode}: calibrate at this size"
        )


def camera_names(config: ActorConfig) -> list[str]:
    """Returns the names of the cameras, in the order they were given."""
    return [camera.name for camera in _cameras(config)]


def make_cell_env(
    config: ActorConfig, clock: Clock, should_stop: Callable[[], bool] = lambda: False
) -> RobotEnv:
    """Returns the robot, with every camera showing frames and the guard taking targets.

    Args:
        config: Checked by `check_cell`; its guard works in SPOOL/run.
        clock: The operating system's monotonic clock.
        should_stop: Asked on the way to a start; what to do then is to let go.

    Raises:
        RobotFault: A camera shows nothing, or there is no guard or it refuses.
        ImportError: A driver is not installed.
    """
    cell, limits = config.cell, read_limits(_given(config.limits))
    spec = cell.spec(camera_names(config))
    gate = gate_limits(limits)
    socket_path = config.spool / "run" / SOCKET_FILE
    with contextlib.ExitStack() as opened:
        cameras: list[Camera] = []
        for address in _cameras(config):
            cameras.append(open_camera(config, address, clock))
            opened.callback(cameras[-1].close)
        for camera in cameras:
            # The arm does not move before every camera has shown something.
            camera.read()
        arm = GuardedArm(
            lambda: SocketLink(socket_path),
            clock,
            period_ns=cell.period_ns,
            limits=gate,
            should_stop=should_stop,
        )
        env = RobotEnv(
            arm=arm,
            cameras=cameras,
            reward=detector_of(config),
            gate=SafetyGate(
                gate,
                action_names=spec.action_names,
                action_scale=spec.action_scale,
                period_s=1.0 / cell.control_hz,
            ),
            task=CellTask(limits, cell.start_margin_m),
            spec=spec,
            clock=clock,
            frame_limits=cell.frames,
            lookout=_lookout(config, cameras, clock),
        )
        opened.pop_all()
    return env


def _lookout(config: ActorConfig, cameras: list[Camera], clock: Clock) -> Lookout | None:
    """Returns who watches the cameras between two ticks.

    Nobody watches a recording: its gaps are of another day, and no real arm is driven by it.
    """
    watched = [
        camera
        for camera, address in zip(cameras, _cameras(config), strict=True)
        if address.recording is None
    ]
    age_s = config.cell.lookout_age_s
    limits = FrameLimits(max_age_s=age_s, fault_age_s=config.cell.frames.fault_age_s)
    return Lookout(watched, limits, clock) if watched else None


def open_camera(config: ActorConfig, address: CameraAddress, clock: Clock) -> Camera:
    """Opens one camera with the cell's stream; the caller closes it.

    Args:
        config: Checked by `check_cell`.
        address: Where the camera is.
        clock: The operating system's monotonic clock.

    Raises:
        RobotFault: Its stream cannot be started.
        ImportError: The vendor's SDK is not installed.
    """
    stream = dataclasses.replace(config.cell.stream, name=address.name)
    if address.world_port is not None:
        from robot.doubles.world_camera import WorldCamera

        scene = dataclasses.replace(config.sim, task=config.cell.task)
        return WorldCamera(stream, clock, scene, address.world_port)
    from robot.realsense import RealSenseCamera
    from robot.realsense_source import RecordingSource, SerialSource

    if address.recording is not None:
        return RealSenseCamera(stream, clock, RecordingSource(address.recording))
    return RealSenseCamera(stream, clock, SerialSource(address.serial))


def _cameras(config: ActorConfig) -> list[CameraAddress]:
    return [parse_camera(text) for text in config.camera]


def _calibration(config: ActorConfig) -> Calibration:
    return build_file(Calibration, _given(config.calibration))


def detector_of(config: ActorConfig) -> Reward:
    """Returns what judges the frames; ConfigError or ValueError if the calibration does not fit."""
    return make_detector(
        config.cell.task,
        _calibration(config),
        reach_tolerance_m=config.cell.reach_tolerance_m,
        lift_height_m=config.cell.lift_height_m,
    )


def _given(path: Path | None) -> Path:
    assert path is not None, "check_cell comes first"
    return path
