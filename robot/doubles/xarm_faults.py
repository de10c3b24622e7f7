"""What can go wrong with a controller, on demand: by method, or by a line of text.

Lines: `error N`, `warn N`, `stop`, `pause`, `estop`, `estop release`, `delay SECONDS`, `mute`,
`unmute`, `report off`, `report on`, `reset`, `refuse`, `accept`, `unplug`, `plug`,
`object OPENING`, `object none`, `gripper_error N`, `gripper_delay SECONDS`, `state`, and
`record SINCE_NS`: what the arm was told from then on, as JSON.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from robot.doubles.xarm_machine import EMERGENCY_STOP, XArmMachine

_PAUSED = 3


class Lines(Protocol):
    """The connections of a controller, as far as faults reach them."""

    def reset_connections(self) -> None:
        """Cuts every connection as a pulled cable or a reboot does: with a reset."""
        ...

    def set_accepting(self, *, is_accepting: bool) -> None:
        """Lets new connections in, or refuses them."""
        ...


class FaultPanel:
    """The faults of one controller.

    Args:
        machine: What breaks down.
        lines: Its connections.
    """

    def __init__(self, machine: XArmMachine, lines: Lines) -> None:
        self.is_report_silent = False
        """Reports are not sent, on connections that stay open."""
        self.reply_delay_s = 0.0
        """How late replies are; what was asked is done at once. Connections are late each for
        itself."""
        self.gripper_delay_s = 0.0
        """How late the gripper alone answers."""
        self.is_mute = False
        """Requests are read and neither done nor answered, as by a controller that hangs."""
        self.is_plugged = threading.Event()
        """Unset, nothing comes or goes, and no connection ends: a cable without its plug. What was
        sent meanwhile arrives afterwards, as TCP has it."""
        self.is_plugged.set()
        self._machine = machine
        self._lines = lines

    def error(self, code: int) -> None:
        """Stops the arm with an error of the controller."""
        with self._machine.lock:
            self._machine.fail(code)

    def warning(self, code: int) -> None:
        """Raises a warning."""
        with self._machine.lock:
            self._machine.warning = code

    def stop_from_outside(self) -> None:
        """Sets state 4, as another program or the vendor's web page does."""
        with self._machine.lock:
            self._machine.stop()

    def pause_from_outside(self) -> None:
        """Sets state 3, as another program does."""
        with self._machine.lock:
            self._machine.stop()
            self._machine.state = _PAUSED

    def press_emergency_stop(self) -> None:
        """Presses the red button: error 1, motors off, and no clearing until it is released."""
        with self._machine.lock:
            self._machine.is_emergency_stop_pressed = True
            self._machine.fail(EMERGENCY_STOP)

    def release_emergency_stop(self) -> None:
        """Pulls the red button out; the error stays until it is cleared."""
        with self._machine.lock:
            self._machine.is_emergency_stop_pressed = False

    def reset_connections(self) -> None:
        """Cuts every connection."""
        self._lines.reset_connections()

    def refuse_connections(self) -> None:
        """Cuts every connection and lets none in."""
        self._lines.set_accepting(is_accepting=False)
        self._lines.reset_connections()

    def accept_connections(self) -> None:
        """Lets connections in again."""
        self._lines.set_accepting(is_accepting=True)

    def put_object(self, opening: float | None) -> None:
        """Puts something between the fingers that keeps them this far open; None takes it away."""
        with self._machine.lock:
            self._machine.body.block_gripper(opening)

    def gripper_error(self, code: int) -> None:
        """Makes the gripper report an error."""
        with self._machine.lock:
            self._machine.gripper.error = code

    def obey(self, line: str) -> str:
        """Does what a line of text says and returns `ok`, an answer, or `error: ...`."""
        words = line.split()
        command, rest = (words[0], words[1:]) if words else ("", [])
        plain: dict[tuple[str, ...], Callable[[], None]] = {
            ("stop",): self.stop_from_outside,
            ("pause",): self.pause_from_outside,
            ("estop",): self.press_emergency_stop,
            ("estop", "release"): self.release_emergency_stop,
            ("mute",): lambda: setattr(self, "is_mute", True),
            ("unmute",): lambda: setattr(self, "is_mute", False),
            ("unplug",): self.is_plugged.clear,
            ("plug",): self.is_plugged.set,
            ("report", "off"): lambda: setattr(self, "is_report_silent", True),
            ("report", "on"): lambda: setattr(self, "is_report_silent", False),
            ("reset",): self.reset_connections,
            ("refuse",): self.refuse_connections,
            ("accept",): self.accept_connections,
            ("object", "none"): lambda: self.put_object(None),
        }
        numbered: dict[str, Callable[[float], None]] = {
            "error": lambda number: self.error(int(number)),
            "warn": lambda number: self.warning(int(number)),
            "delay": lambda number: setattr(self, "reply_delay_s", number),
            "object": self.put_object,
            "gripper_delay": lambda number: setattr(self, "gripper_delay_s", number),
            "gripper_error": lambda number: self.gripper_error(int(number)),
        }
        try:
            if words == ["state"]:
                return self._describe()
            if command == "record" and len(rest) == 1:
                return self._recorded(int(rest[0]))
            if tuple(words) in plain:
                plain[tuple(words)]()
            elif command in numbered and len(rest) == 1:
                numbered[command](float(rest[0]))
            else:
                return f"error: unknown line {line.strip()!r}"
        except ValueError as error:
            return f"error: {error}"
        return "ok"

    def _recorded(self, since_ns: int) -> str:
        with self._machine.lock:
            kept = {
                name: [asdict(each) for each in entries if each.t_ns >= since_ns]
                for name, entries in (
                    ("samples", self._machine.samples),
                    ("motions", self._machine.motions),
                )
            }
        return json.dumps(kept)

    def _describe(self) -> str:
        with self._machine.lock:
            values = self._machine.values()
        place = " ".join(f"{number:.1f}" for number in values.pose[:3])
        return (
            f"state={values.state} mode={values.mode} error={values.error} "
            f"warn={values.warning} enabled={int(values.is_enabled)} tool_mm={place}"
        )
