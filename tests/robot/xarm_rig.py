"""An `XArm` in front of the controller's double, on ports of the system's choice."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any

from robot.clock import Clock, SimulatedClock
from robot.doubles.xarm_motion import KinematicBody
from robot.doubles.xarm_record import Identity
from robot.doubles.xarm_server import XArmController
from robot.xarm import XArm
from robot.xarm_config import XArmConfig, XArmPorts
from robot.xarm_reset import ResetWay
from robot.xarm_sdk import load_sdk

START_M = (0.40, 0.0, 0.20)
_SDK_LOOK_S = 0.05


class _EagerTime:
    """The `time` module to the SDK, which looks ten times in a row, every 50 ms, whether an arm
    rests before it sets anything: here every 5 ms. Its other pauses are as they are."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, duration_s: float) -> None:
        time.sleep(0.1 * duration_s if duration_s == _SDK_LOOK_S else duration_s)


@functools.cache
def hurry_sdk() -> None:
    """Loads the SDK and shortens its longest pauses."""
    load_sdk(XArmConfig())
    from xarm.x3 import base

    vendor_base: Any = base
    vendor_base.time = _EagerTime()


def make_controller(
    clock: Clock, identity: Identity | None = None, *, slow_every: int = 2
) -> XArmController:
    """Returns a running double; the caller closes it.

    Args:
        clock: Time of the motion.
        identity: What it says it is.
        slow_every: As of `XArmController`. Connecting waits for two rich reports, three times: they
            come ten times as often as a real controller's here, unless a test says otherwise.
    """
    hurry_sdk()
    body = KinematicBody(START_M, clock.now_ns())
    return XArmController(body, clock, identity=identity, slow_every=slow_every)


def config_for(controller: XArmController, **changes: Any) -> XArmConfig:
    """Returns a driver's configuration that leads to the double, patient with a busy machine."""
    ports = controller.ports
    changes.setdefault("command_timeout_s", 10.0)
    return XArmConfig(
        ip="127.0.0.1",
        ports=XArmPorts(control=ports.control, rich=ports.rich, real=ports.real),
        **changes,
    )


@contextlib.contextmanager
def connected_arm(
    clock: Clock | None = None, way: ResetWay | None = None, **changes: Any
) -> Iterator[tuple[XArm, XArmController, Clock]]:
    """Gives a connected arm, its double and their clock, a simulated one unless given."""
    clock = clock or SimulatedClock()
    with make_controller(clock) as controller:
        arm = XArm(config_for(controller, **changes), clock, way)
        arm.connect()
        try:
            yield arm, controller, clock
        finally:
            arm.close()


@contextlib.contextmanager
def impatient(arm: XArm, command_timeout_s: float = 10.0) -> Iterator[None]:
    """Has a connected arm give the controller, mute or slow by now, little time to answer.

    Args:
        arm: Its present connections wait no longer than this driver's shipped 0.2 s for the answer
            to a stop and to what is asked beside it.
        command_timeout_s: How long it waits for all else.
    """
    lines: Any = arm._lines
    config = lines._config
    lines._config = dataclasses.replace(config, command_timeout_s=command_timeout_s)
    lines._stop.set_timeout(0.2)
    try:
        yield
    finally:
        lines._config = config
        lines._stop.set_timeout(10.0)
