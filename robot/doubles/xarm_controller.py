"""A controller of an xArm 7 that is not there, as a program: speaks what the vendor's SDK speaks.

    python -m robot.doubles.xarm_controller --ip 127.0.0.1 --body mujoco

Then point the driver at 127.0.0.1. Faults are typed on standard input or sent, a line each, to the
admin port; `robot.doubles.xarm_faults` lists them. With a simulated workspace `place NAME X Y Z`
puts an object somewhere, in metres, and `camera freeze` (or another `DeviceTrouble`, or `well`)
says what is wrong with the camera that looks at it. `quit` ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import socket
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from robot.clock import Clock, MonotonicClock
from robot.doubles.device_trouble import DeviceTrouble
from robot.doubles.xarm_motion import KinematicBody
from robot.doubles.xarm_record import Identity
from robot.doubles.xarm_server import ControllerPorts, XArmController
from robot.sim.config import SimConfig

_FEED_HOST = "127.0.0.1"
"""Where a world's feed listens, whatever the controller's address is."""
_MOST_PORT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the double until it is interrupted or standard input says `quit`.

    Returns 3 when it cannot listen where it should.
    """
    options = _parse(argv)
    ports = ControllerPorts(
        control=options.control_port,
        normal=options.normal_port,
        rich=options.rich_port,
        real=options.real_port,
        admin=options.admin_port,
    )
    asked = {f"--{name}-port": (options.ip, port) for name, port in asdict(ports).items()}
    if options.body == "mujoco":
        asked["--feed-port"] = (_FEED_HOST, options.feed_port)
    if refused := _refused(asked):
        _say(f"error: cannot listen: {refused}")
        return 3
    clock = MonotonicClock()
    with contextlib.ExitStack() as stack:
        try:
            stage = _PhysicalStage(options, clock) if options.body == "mujoco" else None
            if stage is not None:
                stack.callback(stage.publisher.close)
            controller = XArmController(
                KinematicBody(tuple(options.start), clock.now_ns())
                if stage is None
                else stage.body,
                clock,
                ip=options.ip,
                ports=ports,
                identity=Identity(firmware=options.firmware, axis=options.axis),
                on_tick=None if stage is None else stage.publish,
                obey_first=(lambda _: None) if stage is None else stage.obey,
            )
        except OSError as error:
            _say(f"error: cannot listen: {error}")
            return 3
        stack.callback(controller.close)
        if stage is not None:
            _say(f"feed_port={stage.publisher.port}")
        _say(" ".join(f"{name}_port={port}" for name, port in asdict(controller.ports).items()))
        _obey_lines(sys.stdin, controller)
    return 0


def _refused(asked: Mapping[str, tuple[str, int]]) -> str:
    """Returns which flags ask for a port that cannot be had, and why; nothing if all can.

    Args:
        asked: Host and port by flag.
    """
    why: dict[str, list[str]] = {}
    # All at once, so that a port that is asked for twice is found, too.
    with contextlib.ExitStack() as held:
        for flag, (host, port) in asked.items():
            try:
                held.enter_context(socket.create_server((host, port)))
            except OSError as error:
                what = " (below 1024 only root may)" if isinstance(error, PermissionError) else ""
                # Python adds which address it tried, in many words.
                reason = f"{str(error.strerror).partition(' (while')[0]} at {host}{what}"
                why.setdefault(reason, []).append(f"{flag} {port}")
    return "; ".join(f"{', '.join(flags)}: {reason}" for reason, flags in why.items())


class _PhysicalStage:
    """The simulated workspace around the arm: its objects, and its state for whoever draws it."""

    def __init__(self, options: argparse.Namespace, clock: Clock) -> None:
        # Rendering needs OpenGL, which the double without a workspace does not.
        from robot.doubles import world_feed
        from robot.doubles.rearranging import Rearranger
        from robot.doubles.xarm_physics import MujocoBody

        self._state_of = world_feed.state_of
        config = SimConfig(task=options.task, variation=options.variation)
        self.body = MujocoBody(config, tuple(options.start), clock.now_ns())
        self.publisher = world_feed.WorldPublisher(self.body.world, options.feed_port)
        height_m = options.rearrange_above
        self._rearranger = None if height_m is None else Rearranger(self.body.world, height_m)
        self._trouble: DeviceTrouble | None = None

    def publish(self) -> None:
        """Offers the present state."""
        if self._rearranger is not None:
            self._rearranger.look()
        state = self._state_of(self.body.world, self.body.t_ns)
        self.publisher.publish(dataclasses.replace(state, trouble=self._trouble))

    def obey(self, line: str) -> str | None:
        """Obeys `place NAME X Y Z`, metres, and `camera TROUBLE`; None for any other line."""
        words = line.split()
        if words[:1] == ["camera"]:
            troubles = {trouble.name.lower(): trouble for trouble in DeviceTrouble}
            if len(words) != 2 or words[1] not in {"well", *troubles}:
                return f"error: camera well, {', '.join(troubles)}: {line.strip()!r}"
            self._trouble = troubles.get(words[1])
            return "ok"
        if words[:1] != ["place"]:
            return None
        try:
            name, *place = words[1:]
            self.body.world.place_body(name, np.array([float(n) for n in place]).reshape(3))
        except (KeyError, ValueError) as error:
            return f"error: place NAME X Y Z: {error}"
        return "ok"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m robot.doubles.xarm_controller")
    standard = ControllerPorts()
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on")
    for name in ("control", "normal", "rich", "real", "admin"):
        parser.add_argument(
            f"--{name}-port", type=_port, default=getattr(standard, name), help="0 is any free one"
        )
    parser.add_argument("--body", choices=("kinematic", "mujoco"), default="kinematic")
    parser.add_argument("--task", choices=("reach", "pick"), default="pick", help="mujoco only")
    parser.add_argument("--variation", default="none", help="of the task; mujoco only")
    parser.add_argument("--feed-port", type=_port, default=0, help="the world's state; mujoco only")
    parser.add_argument(
        "--rearrange-above",
        type=float,
        help="move the task's object whenever the tool rises above this, metres; mujoco only",
    )
    parser.add_argument("--firmware", default=Identity().firmware)
    parser.add_argument("--axis", type=int, default=Identity().axis)
    parser.add_argument(
        "--start", type=float, nargs=3, default=(0.40, 0.0, 0.20), help="tool at first, metres"
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= _MOST_PORT):
        raise argparse.ArgumentTypeError(f"expected a port, 0 .. {_MOST_PORT}, got {text!r}")
    return int(text)


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


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
