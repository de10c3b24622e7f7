"""A doctor that is asked one thing at a time, at the doubles of an arm and of its camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.clock import MonotonicClock
from robot.doubles.frame_feeder import FrameFeeder
from robot.doubles.realsense_device import SoftwareDevice, noise
from robot.doubles.xarm_server import XArmController
from robot.guard_limits import GuardLimits
from robot.realsense import RealSenseCamera
from robot.realsense_config import RealSenseConfig
from robot.xarm import XArm
from robot.xarm_config import XArmPorts
from services.actor_config import ActorConfig
from services.checkup import robot_side
from services.checkup.finding import Finding
from services.checkup.gauges import Gauges
from services.commands.doctor import DoctorFlags, examine
from services.config import build_file
from services.config_text import to_toml
from services.demo_config import CONFIGS
from services.measure import Times
from services.wall_clock import ClockState
from tests.robot.xarm_rig import make_controller

FPS = 15
QUICK = Times(p50_ms=0.1, p99_ms=0.5, max_ms=0.6)
AT_ONCE = Times(p50_ms=0.0, p99_ms=0.0, max_ms=0.0)
GOOD = Gauges(
    free_bytes=lambda _: 1 << 40,
    durable_write=lambda _: QUICK,
    lateness=lambda _: QUICK,
    lateness_under_load=lambda _hz, _niceness: QUICK,
    planning=lambda _policy, _fields, _num: QUICK,
    watching=lambda _stream, _spec, _reward, _num: AT_ONCE,
    clock_state=lambda: ClockState(is_synchronised=True, max_error_s=0.001),
    wall_minus_monotonic_ns=lambda: 0,
)
MACHINE = ("arm", "loop", "planner", "spool", "learner", "clock")


@pytest.fixture
def controller() -> Iterator[XArmController]:
    with make_controller(MonotonicClock()) as made:
        yield made


def write_cell(folder: Path, controller: XArmController, **changes: object) -> Path:
    """Writes the actor's file of the doubles, with limits that lead to `controller`."""
    limits = build_file(GuardLimits, CONFIGS / "limits-xarm7-doubles.toml")
    ports = controller.ports
    xarm = dataclasses.replace(
        limits.xarm,
        ports=XArmPorts(control=ports.control, rich=ports.rich, real=ports.real),
    )
    (folder / "limits.toml").write_text(to_toml(dataclasses.replace(limits, xarm=xarm)))
    shipped = build_file(ActorConfig, CONFIGS / "xarm7-doubles-actor.toml")
    values: dict[str, object] = {
        "limits": folder / "limits.toml",
        "calibration": CONFIGS / "xarm7-doubles-calibration.toml",
        "camera": ("double-1=front",),
        "spool": folder / "spool",
    }
    path = folder / "actor.toml"
    path.write_text(to_toml(dataclasses.replace(shipped, **(values | changes))))  # type: ignore[arg-type]
    return path


def rows(
    actor_file: Path, asked: str, gauges: Gauges = GOOD, **flags: object
) -> dict[str, Finding]:
    """Returns what the doctor says when all but one check is left out."""
    skip = tuple(name for name in MACHINE if name != asked)
    told = DoctorFlags(actor_config=actor_file, skip=skip, plans=1, seconds=1.0, **flags)  # type: ignore[arg-type]
    return {finding.check: finding for finding in examine(told, gauges)}


def set_up(actor_file: Path) -> None:
    """Does to the controller what a guard does when it starts."""
    arm = XArm(robot_side.arm_config(build_file(ActorConfig, actor_file)), MonotonicClock())
    arm.connect()
    arm.close()


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Puts a software camera in the place of the cell's; the list says how often it is fed."""
    # More often than asked: a busy machine may lose some, and the rate is still there.
    rate_hz, feeders = [4.0 * FPS], []

    def open_camera(config: ActorConfig, address: object, clock: MonotonicClock) -> RealSenseCamera:
        stream = RealSenseConfig(
            width=64,
            height=48,
            fps=FPS,
            num_warm_up_frames=2,
            first_frame_s=10.0 if rate_hz[0] else 1.0,
            max_restarts=0,
        )
        device = SoftwareDevice(stream, clock)
        if rate_hz[0]:
            feeders.append(FrameFeeder(noise(stream), device.feed, rate_hz[0]))
        return RealSenseCamera(stream, clock, device)

    monkeypatch.setattr(robot_side, "open_camera", open_camera)
    yield rate_hz
    for feeder in feeders:
        feeder.close()
