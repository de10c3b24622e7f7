"""What the control loop, a person's commands and the guard say to each other.

Times are monotonic nanoseconds, which all processes of a machine share. `robot/guard_wire.py` makes
bytes of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from robot.interfaces import ArmState, RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits


class Phase(enum.IntEnum):
    """What the guard is doing."""

    IDLE = 0
    """Nothing was asked for since it started, or since a loop left or a fault was cleared."""
    RESETTING = 1
    """The arm goes to where a trial begins."""
    READY = 2
    """The arm rests where it was sent, and silence is no fault."""
    MOVING = 3
    """Targets come in time."""
    HELD = 4
    """No targets come, or the loop sees nothing new: the arm was told to stay where it is."""
    LATCHED = 5
    """A fault is latched."""


@dataclass(frozen=True, kw_only=True)
class Hello:
    """A loop wants to drive: how often it sends a target, and its own limits."""

    period_ns: int
    limits: SafetyLimits


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Go to where a trial begins."""

    number: int
    """Chosen by the loop, to know the end of this reset from that of another."""
    pose: StartPose


@dataclass(frozen=True, kw_only=True)
class Command:
    """The newest target."""

    seq: int
    """Grows from target to target of one connection, from 1 on."""
    t_ns: int
    """When it was sent."""
    target: ToolTarget


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Brake, and stay until the next target: the loop sees nothing new."""

    t_ns: int
    """When the loop said so; 0 where a thread beside it does, which is no sign of its life."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The loop is there and waits for the end of a reset; `t_ns` is when it said so."""

    t_ns: int


@dataclass(frozen=True, kw_only=True)
class Rest:
    """The trial is over: no target comes before the next reset."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Stop, and stay stopped until a person says otherwise; anybody may ask."""

    cause: RobotFault | None = None
    """Why, where a loop asks; None for no more than that it asked."""


@dataclass(frozen=True, kw_only=True)
class Close:
    """The loop leaves."""


@dataclass(frozen=True, kw_only=True)
class Ack:
    """A person has seen to the latched fault."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The guard's answer to Hello, and to what a person asked for."""

    is_ok: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """How the guard and the arm are."""

    phase: Phase
    t_ns: int
    """When it was made."""
    state: ArmState | None = None
    """None while the arm has not been connected."""
    fault: RobotFault | None = None
    seq: int = 0
    """Of the newest accepted target of this connection."""
    reset_number: int = 0
    """Of the last reset that ended at its pose; 0 for none of this connection."""
    num_holds: int = 0
    num_ignored: int = 0
    """Targets that were not followed: old, out of order, or when none was due."""
    num_acks: int = 0


Message = Hello | Reset | Command | Hold | Waiting | Rest | Stop | Close | Ack | Answer | Report
