"""The xArm's gripper on a connection and a thread of its own.

Each exchange with it goes over the tool's serial line and takes milliseconds, or seconds when the
line is broken; none of that may hold up the arm.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from robot.clock import Clock
from robot.interfaces import RobotFault
from robot.xarm_codes import sdk_fault
from robot.xarm_config import XArmConfig
from robot.xarm_units import to_opening, to_pulses

# Wider open than told by this much, and standing still for so long, means that something is held.
_STUCK_BY = 0.05
_STILL_BY = 0.004
_STILL_NS = 150_000_000
_MAX_UNREAD = 3
"""So many readings in a row without an answer are a fault: a serial line loses one at times."""
_UNREAD = ("gripper_silent", "sdk_garbled", "sdk_timeout")
_LAST_S = 0.2
"""A hold that was asked for may take this long before the connection is closed."""


class XArmGripper:
    """Sends the newest wish when it changes, reads where the gripper is, and never blocks a caller.

    Args:
        api: A connection of its own.
        config: Speed and poll period.
        clock: Dates readings.
        on_fault: Is told, in this object's thread, when the gripper fails.
    """

    def __init__(
        self,
        api: Any,
        config: XArmConfig,
        clock: Clock,
        on_fault: Callable[[RobotFault], object],
    ) -> None:
        self._api = api
        self._config = config
        self._clock = clock
        self._on_fault = on_fault
        self._changed = threading.Condition()
        self._wished: float | None = None
        self._sent_pulses: int | None = None
        self._opening = 1.0
        self._was_at: tuple[float, int] = (1.0, clock.now_ns())
        self._is_stuck = False
        self._is_on_its_way = False
        self._is_held = self._is_hold_due = False
        self._is_closing = False
        self._fault: RobotFault | None = None
        self._num_measured = self._num_unread = 0
        self._num_asked = 0
        self._thread: threading.Thread | None = None

    @property
    def measured(self) -> tuple[float, bool]:
        """The newest reading: opening, and whether the gripper is held open."""
        with self._changed:
            return self._opening, self._is_stuck

    @property
    def fault(self) -> RobotFault | None:
        """Why it is not moved any more; None while it works. `start` after `repair` takes it away.

        It stands here too, for whoever was told may have been clearing another fault just then.
        """
        return self._fault

    def start(self) -> None:
        """Readies the gripper, takes a first reading and starts the thread, or starts it again;
        RobotFault if it fails."""
        api = self._api
        with _translated("readying the gripper"):
            self._check(api.set_gripper_mode(0), "setting the gripper's mode")
            self._check(api.set_gripper_enable(True), "enabling the gripper")
            self._check(
                api.set_gripper_speed(self._config.gripper_speed_rpm), "setting the gripper's speed"
            )
            self._measure()
        with self._changed:
            self._fault, self._num_unread = None, 0
            self._is_held = self._is_hold_due = False
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="xarm-gripper", daemon=True)
            self._thread.start()

    def repair(self) -> None:
        """Clears the gripper's error on a person's behalf; `start` has to follow."""
        with _translated("clearing the gripper's error"):
            self._check(self._api.clean_gripper_error(), "clearing the gripper's error")
        with self._changed:
            self._sent_pulses = self._wished = None

    def set(self, opening: float) -> None:
        """Makes this the wish, unless it is to hold; returns at once."""
        with self._changed:
            if not self._is_held:
                self._wished = opening
                self._changed.notify_all()

    def hold(self) -> None:
        """Forgets the wish and ends a motion under way; returns at once.

        What is between the fingers stays held. Only `start` lets the gripper be moved again.
        """
        with self._changed:
            self._is_held = self._is_hold_due = True
            self._wished = None
            self._changed.notify_all()

    def wait_measured(self, timeout_s: float) -> tuple[float, bool]:
        """Waits for a reading begun after this call, for a reset; RobotFault if none comes."""
        with self._changed:
            # A reading under way began before: the one after it is meant.
            self._num_asked = wanted = self._num_measured + 2
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._num_measured >= wanted or self._fault is not None, timeout_s
            )
            if self._num_measured < wanted:
                raise RobotFault("gripper_silent", "the gripper's position cannot be read")
            return self._opening, self._is_stuck

    def close(self) -> None:
        """Has the thread end: after a hold that is due, or, if an exchange hangs, once the
        connection is closed."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_LAST_S)

    def _work(self) -> None:
        try:
            self._follow()
        finally:
            if not self._is_closing:
                self._fail(RobotFault("gripper_silent", "the thread of the gripper ended"))

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, self._config.gripper_poll_s)
                is_hold_due, self._is_hold_due = self._is_hold_due, False
                if self._is_closing and not is_hold_due:
                    return
                pulses = None if self._wished is None else to_pulses(self._wished)
            if self._fault is not None:
                self._wait_a_while()
                continue
            try:
                with _translated("driving the gripper"):
                    if pulses is not None and self._is_new(pulses):
                        self._send(pulses)
                    self._look()
                    if is_hold_due and self._is_on_its_way:
                        self._send(to_pulses(self._opening))
            except RobotFault as fault:
                if not self._is_closing:
                    self._fail(fault)

    def _fail(self, fault: RobotFault) -> None:
        try:
            # First, so that whoever waits for a reading finds the arm stopped.
            self._on_fault(fault)
        finally:
            with self._changed:
                self._fault = fault
                self._changed.notify_all()

    def _has_work(self) -> bool:
        is_new = self._wished is not None and self._is_new(to_pulses(self._wished))
        is_asked = self._num_measured < self._num_asked or self._is_hold_due
        return self._is_closing or (self._fault is None and (is_new or is_asked))

    def _wait_a_while(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, self._config.gripper_poll_s)

    def _is_new(self, pulses: int) -> bool:
        if self._sent_pulses is None:
            return True
        change = abs(to_opening(pulses) - to_opening(self._sent_pulses))
        is_end = pulses != self._sent_pulses and to_opening(pulses) in (0.0, 1.0)
        return change > 0.25 * self._config.gripper_tolerance or is_end

    def _send(self, pulses: int) -> None:
        # By default the SDK would wait for the arm to stand still.
        code = self._api.set_gripper_position(pulses, wait=False, wait_motion=False)
        self._check(code, "moving the gripper")
        with self._changed:
            self._sent_pulses = pulses
            # It needs a moment to set out, and is not stuck meanwhile.
            self._was_at = (self._was_at[0], self._clock.now_ns())

    def _look(self) -> None:
        """Measures; a reading that gets no answer is left out, unless it is one of many."""
        try:
            self._measure()
        except RobotFault as fault:
            self._num_unread += 1
            if fault.code not in _UNREAD or self._num_unread >= _MAX_UNREAD:
                raise
        else:
            self._num_unread = 0

    def _measure(self) -> None:
        answer = self._api.get_gripper_position()
        # When the gripper has an error the SDK returns the code alone.
        code, pulses = answer if isinstance(answer, tuple) else (answer, None)
        self._check(code, "reading the gripper")
        if pulses is None:
            raise RobotFault("gripper_silent", "the gripper's position cannot be read")
        opening = to_opening(pulses)
        with self._changed:
            now_ns = self._clock.now_ns()
            if abs(opening - self._was_at[0]) > _STILL_BY:
                self._was_at = (opening, now_ns)
            is_still = now_ns - self._was_at[1] >= _STILL_NS
            told = None if self._sent_pulses is None else to_opening(self._sent_pulses)
            self._is_stuck = told is not None and is_still and opening - told > _STUCK_BY
            is_there = told is None or abs(opening - told) <= self._config.gripper_tolerance
            self._is_on_its_way = not (is_still or is_there)
            self._opening = opening
            self._num_measured += 1
            self._changed.notify_all()

    @staticmethod
    def _check(code: int, what: str) -> None:
        if code != 0:
            raise sdk_fault(code, what)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Makes a fault of whatever the SDK raises: its own code may run into anything."""
    try:
        yield
    except RobotFault:
        raise
    except Exception as error:
        raise RobotFault("sdk_error", f"{what}: the SDK raised {error!r}") from error
