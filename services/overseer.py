"""What a person who watches a robot wants, as the control loop asks for it: without ever waiting.

The person's wishes are words of the control block (`services/ring_control.py`). Whoever owns the
terminal writes them, the loop reads them at each tick. A command that is not renewed becomes a
hold: hands that went away do not steer. Nor does a model whose person cannot be heard: while nobody
reads the keys, it is as if the person had paused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from services.ring_control import Control

SILENT_NS = 300_000_000
"""A command older than this is none: the arm holds."""
DEAF_NS = 1_000_000_000
"""Where a person watches, nothing moves on when their keys have not been read for so long."""
_STEPS = 127
_MAX_AXES = 7


class Verdict(IntEnum):
    """What a person says of the trial that is on, or has just ended."""

    NONE = 0
    """Nothing yet."""
    SUCCESS = 1
    FAILURE = 2
    DISCARD = 3
    """It shall not count."""
    AGREED = 4
    """It is as the reward says."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a person wants at one moment."""

    command: np.ndarray | None = None
    """The action of a person who has taken over, float32; None for the pilot's. [A]"""
    verdict: Verdict = Verdict.NONE
    is_paused: bool = False
    """The arm shall hold until this is over."""


NO_WISH = Wish()


class Overseer(Protocol):
    """Knows what the person wants; every answer comes at once."""

    def begin(self) -> None:
        """Says that a trial begins now."""
        ...

    def look(self) -> Wish:
        """Returns what is wanted right now."""
        ...

    def ask(self, *, is_success: bool) -> Wish:
        """Has the person asked for a verdict on the trial that has just ended.

        Args:
            is_success: What the reward says.

        Returns:
            What is wanted right now; to be asked again while its verdict is `NONE`.
        """
        ...

    @property
    def may_begin(self) -> bool:
        """Whether the person lets the next trial begin."""
        ...


class Nobody:
    """Nobody watches: nothing is wanted, the reward is right, trials begin by themselves."""

    may_begin = True

    def begin(self) -> None:
        """Has nobody to tell."""

    def look(self) -> Wish:
        """Wants nothing."""
        return NO_WISH

    def ask(self, *, is_success: bool) -> Wish:
        """Agrees."""
        del is_success
        return Wish(verdict=Verdict.AGREED)


class ControlOverseer:
    """The loop's side of the words that a person's desk writes.

    Args:
        control: The control block.
        action_size: Number of axes A, at most 7.
        now_ns: Monotonic time, that of all processes of the machine.
    """

    def __init__(
        self, control: Control, action_size: int, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        if action_size > _MAX_AXES:
            raise ValueError(f"a person steers at most {_MAX_AXES} axes, got {action_size}")
        self._control = control
        self._action_size = action_size
        self._now_ns = now_ns

    @property
    def may_begin(self) -> bool:
        """Whether the person has let the next trial begin."""
        return self._control.operator_go > self._control.trial_number

    def begin(self) -> None:
        """Counts the trial: words about the one before are not about this one."""
        self._control.trial_says = 0
        self._control.trial_number += 1

    def look(self) -> Wish:
        """Returns what is wanted right now."""
        control = self._control
        number, said = control.operator_verdict
        command = unpack_command(control.operator_command, self._action_size)
        silent_ns = self._now_ns() - control.operator_beat_ns
        if command is not None and silent_ns > SILENT_NS:
            command = np.zeros_like(command)
        return Wish(
            command=command,
            verdict=Verdict(said) if number == control.trial_number else Verdict.NONE,
            is_paused=control.is_paused != 0 or silent_ns > DEAF_NS,
        )

    def ask(self, *, is_success: bool) -> Wish:
        """Says what the reward says, and returns what is wanted right now."""
        self._control.trial_says = Verdict.SUCCESS if is_success else Verdict.FAILURE
        return self.look()


def pack_command(action: np.ndarray | None) -> int:
    """Returns a command as one word, so that a reader never sees half of one.

    Args:
        action: In [-1, 1], kept to the next 127th; None for no command. [A]
    """
    if action is None:
        return 0
    word = np.zeros(8, np.int8)
    word[0] = 1
    word[1 : 1 + len(action)] = np.rint(np.clip(action, -1.0, 1.0) * _STEPS)
    return int(word.view(np.int64)[0])


def unpack_command(word: int, action_size: int) -> np.ndarray | None:
    """Returns what `pack_command` packed, float32; None for no command. [A]"""
    if word == 0:
        return None
    raw = np.array([word], np.int64).view(np.int8)
    return raw[1 : 1 + action_size].astype(np.float32) / np.float32(_STEPS)
