"""From keys and sticks to actions. Pure: time is handed in, nothing is read and nothing waits.

A terminal says that a key was pressed and never that it was let go. A press therefore means full
speed for `hold_s`, then a ramp down to rest over `decay_s`; a key that is held down repeats, and
every repeat starts that anew. Together the two outlast the pause that terminals make before the
first repeat (0.25 to 0.5 s), so that a held key slows down once and does not stop. The opposite key
turns the motion round at once.

The gripper has no speed to feel for: one press closes or opens it all the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.safety import GRIPPER_AXIS

HALT = "space"
"""The key that ends all motion at once."""
MOTIONS: Mapping[str, tuple[str, float]] = {
    "w": ("x", 1.0),
    "s": ("x", -1.0),
    "a": ("y", 1.0),
    "d": ("y", -1.0),
    "up": ("x", 1.0),
    "down": ("x", -1.0),
    "left": ("y", 1.0),
    "right": ("y", -1.0),
    "r": ("z", 1.0),
    "f": ("z", -1.0),
    "o": (GRIPPER_AXIS, 1.0),
    "c": (GRIPPER_AXIS, -1.0),
}
"""What moves on which key, in the frame of the arm's base: x forward, y to its left, z up."""
_NS = 1e9


@dataclass(frozen=True, kw_only=True)
class TeleopConfig:
    """How keys and sticks feel."""

    hold_s: float = 0.3
    """A key press moves at full speed for this long."""
    decay_s: float = 0.3
    """Then it slows down to rest over this long."""
    speeds: tuple[float, ...] = (0.1, 0.2, 0.4, 0.7, 1.0)
    """Parts of the fastest action, on the number keys from 1."""
    first_speed: int = 3
    """Number key whose speed is set in the beginning."""
    dead_zone: float = 0.15
    """A stick that is pushed less than this stands still."""

    def __post_init__(self) -> None:
        for name in ("hold_s", "decay_s"):
            value = getattr(self, name)
            if not 0 < value <= 2.0:
                raise ValueError(f"{name} must be above 0 and at most 2 s, got {value}")
        if not 1 <= len(self.speeds) <= 9 or not all(0 < s <= 1 for s in self.speeds):
            raise ValueError(f"speeds must be one to nine numbers in (0, 1], got {self.speeds}")
        if not 1 <= self.first_speed <= len(self.speeds):
            raise ValueError(f"first_speed must be 1 .. {len(self.speeds)}, got {self.first_speed}")
        if not 0 <= self.dead_zone < 1:
            raise ValueError(f"dead_zone must be in [0, 1), got {self.dead_zone}")


@dataclass(frozen=True, kw_only=True)
class _Push:
    direction: float
    pressed_ns: int


class KeyTeleop:
    """Turns key presses into the action that they mean at any moment.

    Args:
        config: How keys feel.
        action_names: One of x, y, z, gripper for each axis of an action, in order. [A]
        action_scale: What an action of 1 means, see `RobotSpec`. [A]
        control_hz: Actions a second.
    """

    def __init__(
        self,
        config: TeleopConfig,
        *,
        action_names: Sequence[str],
        action_scale: Sequence[float],
        control_hz: float,
    ) -> None:
        self._config = config
        self._axes = {name: index for index, name in enumerate(action_names)}
        self._pushes: dict[str, _Push] = {}
        self.speed = config.first_speed
        """The number key whose speed is set."""
        scale = dict(zip(action_names, action_scale, strict=True)).get(GRIPPER_AXIS, 1.0)
        # One action more than the whole way takes: the first may come in the middle of a period.
        self._grip_ns = round((math.ceil(1.0 / scale) + 1) / control_hz * _NS)

    def press(self, key: str, now_ns: int) -> bool:
        """Takes one key press; False for a key that means nothing here.

        Args:
            key: As `MOTIONS` and `HALT` name them, or a digit.
            now_ns: When it was pressed, monotonic.
        """
        if key == HALT:
            self.halt()
        elif key.isdecimal() and 1 <= int(key) <= len(self._config.speeds):
            self.speed = int(key)
        elif key in MOTIONS and MOTIONS[key][0] in self._axes:
            axis, direction = MOTIONS[key]
            self._pushes[axis] = _Push(direction=direction, pressed_ns=now_ns)
        else:
            return False
        return True

    def halt(self) -> None:
        """Forgets every press: the action is zero from now on."""
        self._pushes.clear()

    def action(self, now_ns: int) -> np.ndarray:
        """Returns what the presses so far mean now, float32 in [-1, 1]. [A]"""
        action = np.zeros(len(self._axes), np.float32)
        for axis, push in self._pushes.items():
            elapsed_ns = now_ns - push.pressed_ns
            if axis == GRIPPER_AXIS:
                size = 1.0 if elapsed_ns < self._grip_ns else 0.0
            else:
                size = self._config.speeds[self.speed - 1] * self._strength(elapsed_ns / _NS)
            action[self._axes[axis]] = push.direction * size
        return action

    def is_pressed(self, now_ns: int) -> bool:
        """Whether a press still moves something."""
        return bool(self.action(now_ns).any())

    def _strength(self, elapsed_s: float) -> float:
        left = 1.0 - (elapsed_s - self._config.hold_s) / self._config.decay_s
        return min(1.0, max(0.0, left))


@dataclass(frozen=True, kw_only=True)
class PadState:
    """Where the sticks and buttons of a gamepad stand; all zero is a pad that nobody touches."""

    forward: float = 0.0
    """Left stick, -1 .. 1; +1 is pushed away from the person."""
    left: float = 0.0
    """Left stick, -1 .. 1; +1 is pushed to the left."""
    up: float = 0.0
    """Right stick, -1 .. 1; +1 is pushed away from the person."""
    is_closing: bool = False
    """The button that closes the gripper is held."""
    is_opening: bool = False
    """The button that opens it is held."""


def pad_action(config: TeleopConfig, state: PadState, action_names: Sequence[str]) -> np.ndarray:
    """Returns the action that a gamepad means, float32 in [-1, 1]. [A]

    Outside the dead zone a stick starts from 0, so that slow motion is within reach.

    Args:
        config: How sticks feel.
        state: Where they stand.
        action_names: One of x, y, z, gripper for each axis of an action, in order. [A]
    """
    wanted = {
        "x": _outside(state.forward, config.dead_zone),
        "y": _outside(state.left, config.dead_zone),
        "z": _outside(state.up, config.dead_zone),
        GRIPPER_AXIS: float(state.is_opening) - float(state.is_closing),
    }
    return np.array([wanted[name] for name in action_names], np.float32)


def _outside(value: float, dead_zone: float) -> float:
    size = (abs(value) - dead_zone) / (1.0 - dead_zone)
    return math.copysign(min(1.0, size), value) if size > 0 else 0.0
