"""An `XArm` in front of the controller's double, on ports of the system's choice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from robot.clock import Clock, SimulatedClock
from robot.doubles.xarm_motion import KinematicBody
from robot.doubles.xarm_record import Identity
from robot.doubles.xarm_server import XArmController
from robot.xarm import XArm
from robot.xarm_config import XArmConfig, XArmPorts

START_M = (0.40, 0.0, 0.20)


def make_controller(clock: Clock, identity: Identity | None = None) -> XArmController:
    """Returns a running double; the caller closes it."""
    return XArmController(KinematicBody(START_M, clock.now_ns()), clock, identity=identity)


def config_for(controller: XArmController, **changes: Any) -> XArmConfig:
    """Returns a driver's configuration that leads to the double, patient with a busy machine."""
    ports = controller.ports
    changes.setdefault("command_timeout_s", 1.0)
    return XArmConfig(
        ip="127.0.0.1",
        ports=XArmPorts(control=ports.control, rich=ports.rich, real=ports.real),
        **changes,
    )


@contextlib.contextmanager
def connected_arm(
    clock: Clock | None = None, **changes: Any
) -> Iterator[tuple[XArm, XArmController, Clock]]:
    """Gives a connected arm, its double and their clock, a simulated one unless given."""
    clock = clock or SimulatedClock()
    with make_controller(clock) as controller:
        arm = XArm(config_for(controller, **changes), clock)
        arm.connect()
        try:
            yield arm, controller, clock
        finally:
            arm.close()
