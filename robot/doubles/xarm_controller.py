"""A controller of an xArm 7 that is not there, as a program: speaks what the vendor's SDK speaks.

    python -m robot.doubles.xarm_controller --ip 127.0.0.1 --body mujoco

Then point the driver at 127.0.0.1. Faults are typed on standard input or sent, a line each, to the
admin port; `robot.doubles.xarm_faults` lists them, and `place NAME X Y Z` puts an object of the
simulated workspace somewhere, in metres. `quit` ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from robot.clock import MonotonicClock
from robot.doubles.xarm_motion import Body, KinematicBody
from robot.doubles.xarm_record import Identity
from robot.doubles.xarm_server import ControllerPorts, XArmController
from robot.sim.config import SimConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the double until it is interrupted or standard input says `quit`."""
    options = _parse(argv)
    clock = MonotonicClock()
    start_m = tuple(options.start)
    with contextlib.ExitStack() as stack:
        on_tick: Callable[[], None] | None = None
        place: Callable[[str], str | None] = lambda _: None  # noqa: E731
        if options.body == "mujoco":
            from robot.doubles.world_feed import WorldPublisher, state_of
            from robot.doubles.xarm_physics import MujocoBody

            config = SimConfig(task=options.task, variation=options.variation)
            physical = MujocoBody(config, start_m, clock.now_ns())
            body: Body = physical
            publisher = WorldPublisher(physical.world, options.feed_port)
            stack.callback(publisher.close)
            on_tick = lambda: publisher.publish(state_of(physical.world, physical.t_ns))  # noqa: E731
            place = lambda line: _place(physical, line)  # noqa: E731
            _say(f"feed_port={publisher.port}")
        else:
            body = KinematicBody(start_m, clock.now_ns())
        controller = XArmController(
            body,
            clock,
            ip=options.ip,
            ports=ControllerPorts(
                control=options.control_port,
                normal=options.normal_port,
                rich=options.rich_port,
                real=options.real_port,
                admin=options.admin_port,
            ),
            identity=Identity(firmware=options.firmware, axis=options.axis),
            on_tick=on_tick,
            obey_first=place,
        )
        stack.callback(controller.close)
        ports = controller.ports
        _say(
            f"control_port={ports.control} normal_port={ports.normal} rich_port={ports.rich} "
            f"real_port={ports.real} admin_port={ports.admin}"
        )
        _obey_lines(sys.stdin, controller)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m robot.doubles.xarm_controller")
    standard = ControllerPorts()
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on")
    for name in ("control", "normal", "rich", "real", "admin"):
        parser.add_argument(
            f"--{name}-port", type=int, default=getattr(standard, name), help="0 is any free one"
        )
    parser.add_argument("--body", choices=("kinematic", "mujoco"), default="kinematic")
    parser.add_argument("--task", choices=("reach", "pick"), default="pick", help="mujoco only")
    parser.add_argument("--variation", default="none", help="of the task; mujoco only")
    parser.add_argument("--feed-port", type=int, default=0, help="the world's state; mujoco only")
    parser.add_argument("--firmware", default=Identity().firmware)
    parser.add_argument("--axis", type=int, default=Identity().axis)
    parser.add_argument(
        "--start", type=float, nargs=3, default=(0.40, 0.0, 0.20), help="tool at first, metres"
    )
    return parser.parse_args(argv)


def _obey_lines(lines: Iterable[str], controller: XArmController) -> None:
    """Obeys lines until `quit`; where standard input ends, until interrupted."""
    try:
        for line in lines:
            if line.strip() == "quit":
                return
            if line.strip():
                _say(controller.obey(line))
        threading.Event().wait()
    except KeyboardInterrupt:
        _say("interrupted")


def _place(body: object, line: str) -> str | None:
    """Obeys `place NAME X Y Z`, metres; None for any other line."""
    from robot.doubles.xarm_physics import MujocoBody

    assert isinstance(body, MujocoBody)
    words = line.split()
    if words[:1] != ["place"]:
        return None
    try:
        name, *place = words[1:]
        body.world.place_body(name, np.array([float(number) for number in place]).reshape(3))
    except (KeyError, ValueError) as error:
        return f"error: place NAME X Y Z: {error}"
    return "ok"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
