"""How fast a tool goes and where it can stop, from states whose times are uncertain by some ms.

A state is dated by when it arrived. Two that arrive right after each other may have been taken far
apart, so a velocity is never taken over less than a base of time, and is never more than the speed
that the limits allow: a stop placed by it is near.
"""

from __future__ import annotations

import math
from collections import deque

from robot.guard_path import Place
from robot.interfaces import ArmState

BASE_NS = 25_000_000
"""Shortest time that a velocity is taken over."""
_OLDEST_NS = 30_000_000
# No state is taken to be older: a driver uses no older reports.
LEAD_NS = 16_000_000
"""The tool is taken to be this far ahead of its newest state: a controller needs some ms to have a
target, and what it tells the arm is up to 30 ms ahead of where the arm is measured. A stop that is
placed too near is overshot, and takes longer than one placed as much too far."""


_REST_NS = 150_000_000
_REST_M = 1e-3
_REST_OPENING = 0.02


class Rest:
    """Tells whether an arm rests, from all its states of a while: one that is measured with noise
    is never still between two of them."""

    def __init__(self) -> None:
        self._states: deque[ArmState] = deque()

    def take(self, state: ArmState) -> None:
        """Takes the newest state; one that is not newer than the last is left out."""
        if self._states and state.t_ns <= self._states[-1].t_ns:
            return
        self._states.append(state)
        while state.t_ns - self._states[0].t_ns > _REST_NS:
            self._states.popleft()

    @property
    def is_resting(self) -> bool:
        """Whether tool and gripper stayed where they are, as far as the states go back."""
        if not self._states:
            return False
        here = self._states[-1]
        return all(
            math.dist(state.position_m, here.position_m) <= _REST_M
            and abs(state.gripper_opening - here.gripper_opening) <= _REST_OPENING
            for state in self._states
        )


class ToolMotion:
    """What a row of states says of the tool's motion.

    Args:
        max_speed_m_s: It is taken to go no faster.
        max_acceleration_m_s2: A stop is never further ahead than one from full speed with this.
    """

    def __init__(self, max_speed_m_s: float, max_acceleration_m_s2: float) -> None:
        self._max_speed_m_s = max_speed_m_s
        self._furthest_m = max_speed_m_s**2 / (2 * max_acceleration_m_s2)
        self._states: deque[ArmState] = deque()
        self.velocity_m_s: Place = (0.0, 0.0, 0.0)
        """Of the tool; zero until the states span the base."""

    def take(self, state: ArmState) -> None:
        """Takes the newest state; one that is not newer than the last is left out."""
        if self._states and state.t_ns <= self._states[-1].t_ns:
            return
        self._states.append(state)
        while len(self._states) > 2 and state.t_ns - self._states[1].t_ns >= BASE_NS:
            self._states.popleft()
        before = self._states[0]
        if (passed_ns := state.t_ns - before.t_ns) < BASE_NS:
            return
        x, y, z = (
            (now - then) / (passed_ns * 1e-9)
            for now, then in zip(state.position_m, before.position_m, strict=True)
        )
        speed = math.hypot(x, y, z)
        factor = min(1.0, self._max_speed_m_s / speed) if speed > 0 else 1.0
        self.velocity_m_s = (x * factor, y * factor, z * factor)

    def stopping_place(self, deceleration_m_s2: float, t_ns: int) -> Place:
        """Returns where the tool comes to rest if it begins to brake at `t_ns`.

        Args:
            deceleration_m_s2: How hard it brakes.
            t_ns: Now. The newest state may be a little older, and the tool has gone on since.
        """
        state, velocity = self._states[-1], self.velocity_m_s
        age_ns = min(max(t_ns - state.t_ns, 0), _OLDEST_NS)
        speed = math.hypot(*velocity)
        seconds = (age_ns + LEAD_NS) * 1e-9 + speed / (2 * deceleration_m_s2)
        if speed * seconds > self._furthest_m:
            seconds = self._furthest_m / speed
        x, y, z = (at + v * seconds for at, v in zip(state.position_m, velocity, strict=True))
        return x, y, z
