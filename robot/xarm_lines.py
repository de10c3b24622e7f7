"""The connections to one controller: to move on, to stop on, and one for the gripper.

The SDK has one request in flight a connection and waits for its answer behind a lock, a move for up
to ten seconds whatever its time limit is set to. A stop therefore has a connection of its own:
what else is asked there is asked after it, or while nothing is commanded. Moves are made in a
thread that can be given up.

Assumed: the controller serves three clients at once, as it does the vendor's program beside an SDK;
and its report a hundred times a second (port 30003) says where the arm was measured to be. Users
found that it may be where the arm was told to be: then nobody here sees that it does not follow.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from robot.arm_claim import ArmClaim
from robot.bounded_calls import BoundedCalls
from robot.clock import Clock
from robot.interfaces import RobotFault
from robot.xarm_codes import controller_fault, sdk_fault
from robot.xarm_config import XArmConfig
from robot.xarm_reports import Measured, MotionReports
from robot.xarm_sdk import open_api
from robot.xarm_settings import (
    ONLINE_MODE,
    READY_S,
    FreshReports,
    check_error,
    check_identity,
    check_idle,
    set_up,
)
from robot.xarm_settings import enable as enable_mode

logger = logging.getLogger(__name__)
_STOP = 4
_ANSWERED = (0, 1, 2)
"""Codes of the SDK for: done, and the controller has an error, or a warning."""
_ANSWER_TIMEOUT_S = 0.2
_SETUP_ANSWER_TIMEOUT_S = 2.0
_SETUP_TIMEOUT_S = 30.0
_CLOSE_S = 0.1
"""How long `close` waits for all connections together."""
TOOL_DOWN_RAD = (3.141592653589793, 0.0, 0.0)


class XArmLines:
    """Open connections to a controller, which nobody else on this machine has meanwhile.

    Args:
        config: Where it is, and how long to wait for it.
        clock: Dates what it says.

    Raises:
        RobotFault: `not_connected`, `sdk_missing`, or `arm_claimed`: another process has it.
    """

    def __init__(self, config: XArmConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._claim = ArmClaim(f"{config.ip}:{config.ports.control}")
        self._calls = BoundedCalls("xarm-motion")
        self._open: list[Any] = []
        self._silent: set[str] = set()
        try:
            self._motion = self._connect("real")
            self._stop = self._connect("rich")
            self.gripper: Any = self._connect(None) if config.has_gripper else None
            """Connection for the gripper; None without one."""
        except RobotFault:
            self.close()
            raise
        self._stop_reports = FreshReports(self._stop)
        self._motion_reports = FreshReports(self._motion)
        self.reports = MotionReports(clock, config.max_report_age_s)
        """Where the arm is."""
        self._motion.register_report_callback(self.reports.take)
        for name, api in (("motion", self._motion), ("stop", self._stop)):
            api.register_connect_changed_callback(
                lambda which, name=name: self._note_connection(name, which)
            )

    @property
    def is_usable(self) -> bool:
        """Whether all connections are up and no call hangs."""
        return self.is_connected and self._calls.wait_until_free(0.0)

    @property
    def reported_error(self) -> int:
        """The controller's error code in the newest rich report, up to 0.2 s old; 0 is none."""
        return self._stop.error_code

    @property
    def is_connected(self) -> bool:
        """Whether all connections are up, among them the one that a stop needs."""
        return all(api.connected for api in self._open)

    @property
    def report_fault(self) -> RobotFault | None:
        """What is wrong with the reports; the SDK notices after four seconds that none comes."""
        if self._silent:
            return RobotFault("report_silent", "the controller sends no reports any more")
        if self._motion.mode != ONLINE_MODE:
            # There a target would not replace the last one but wait behind it, a hold too.
            return RobotFault(
                "mode_changed",
                f"somebody else put the controller into mode {self._motion.mode}, expected "
                f"{ONLINE_MODE}; end the other program, and clear it",
            )
        return None

    def make_ready(self) -> None:
        """Checks the controller, sets it up, and enables the arm in mode 7.

        Raises:
            RobotFault: Whatever is not as it must be; the arm is not to be moved.
        """
        self._bounded("setting the controller up", self._make_ready, _SETUP_TIMEOUT_S)

    def clear_errors(self) -> None:
        """Clears error and warning on a person's behalf; what stays shows in `make_ready`."""
        with self._patience():
            codes = (self._stop.clean_error(), self._stop.clean_warn())
        for code in codes:
            if code < 0 or code >= 3:
                raise sdk_fault(code, "clearing the controller's error")

    def move(
        self, position_mm: list[float], speed_mm_s: float, acceleration_mm_s2: float
    ) -> RobotFault | None:
        """Sends a target, tool down; returns why it was not taken, or None. [3]"""
        roll, pitch, yaw = TOOL_DOWN_RAD
        try:
            code = self._bounded(
                "sending a target",
                lambda: self._motion.set_position(
                    *position_mm,
                    roll,
                    pitch,
                    yaw,
                    speed=speed_mm_s,
                    mvacc=acceleration_mm_s2,
                    is_radian=True,
                    wait=False,
                ),
                self._config.command_timeout_s,
            )
        except RobotFault as fault:
            return fault
        return None if code == 0 else sdk_fault(code, "sending a target")

    def ask(self) -> Measured:
        """Asks where the arm is and in which state; RobotFault if that is not answered in time."""

        def ask_both() -> tuple[tuple[int, list[float]], tuple[int, int]]:
            return self._motion.get_position(), self._motion.get_state()

        (code, pose), (state_code, state) = self._bounded(
            "asking where the arm is", ask_both, self._config.command_timeout_s
        )
        for each in (code, state_code):
            if each != 0:
                raise sdk_fault(each, "asking where the arm is")
        return Measured.from_pose(pose, state, self._clock.now_ns())

    def stop(self) -> bool:
        """Sends the stop at once and returns whether the controller says that it stopped."""
        try:
            code = self._stop.set_state(_STOP)
        except Exception as error:  # noqa: BLE001 - the SDK raises whatever its own code ran into
            code = repr(error)
        # A controller with an error of its own says so, and stands still for it.
        is_stopped = code in _ANSWERED and self._stop.state >= _STOP
        if not is_stopped:
            logger.error("the controller did not confirm a stop: code=%s", code)
        return is_stopped

    def error_or(self, fault: RobotFault) -> RobotFault:
        """Returns the controller's own error if it has one, else `fault`."""
        try:
            code, (error, _) = self._stop.get_err_warn_code()
        except Exception:  # noqa: BLE001 - as in `stop`; then its name is not known
            return fault
        return controller_fault(error) if code == 0 and error != 0 else fault

    def state(self) -> int | None:
        """Returns the controller's state, asked for now; None without an answer."""
        try:
            code, state = self._stop.get_state()
        except Exception:  # noqa: BLE001 - as in `stop`
            return None
        return state if code == 0 else None

    def close(self) -> None:
        """Closes what is open; may be called twice."""
        # Sockets close at once, but the SDK's threads end in their own time, up to two seconds.
        closing = [threading.Thread(target=api.disconnect, daemon=True) for api in self._open]
        for thread in closing:
            thread.start()
        until_s = time.monotonic() + _CLOSE_S
        for thread in closing:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._open = []
        self._calls.close()
        self._claim.release()

    def _note_connection(self, name: str, which: Mapping[str, Any]) -> None:
        if which["reported"]:
            self._silent.discard(name)
        else:
            self._silent.add(name)

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Waits longer for answers: the arm stands still, and nobody waits but a person."""
        self._stop.set_timeout(_SETUP_ANSWER_TIMEOUT_S)
        try:
            yield
        finally:
            self._stop.set_timeout(_ANSWER_TIMEOUT_S)

    def _make_ready(self) -> None:
        with self._patience():
            check_identity(self._stop)
            check_error(self._stop)
            check_idle(self._stop)
            set_up(self._stop, self._stop_reports, self._config)
            until_s = time.monotonic() + READY_S
            while True:
                # Again, where it began anew late for a change of the tool.
                enable_mode(self._stop, ONLINE_MODE)
                # The SDK holds the first target back until it has seen a report of a ready arm.
                self._motion_reports.wait("waiting for the arm to be ready")
                if self._motion.mode == ONLINE_MODE or time.monotonic() > until_s:
                    break
        if self._motion.mode != ONLINE_MODE:
            raise RobotFault(
                "not_ready",
                f"expected the controller in mode {ONLINE_MODE}, it says {self._motion.mode}",
            )

    def _connect(self, report: str | None) -> Any:
        try:
            api = self._calls.call(
                lambda: open_api(self._config, report),
                self._config.connect_timeout_s,
                on_late=lambda late: late.disconnect(),
            )
        except TimeoutError as error:
            raise RobotFault(
                "not_connected",
                f"the controller at {self._config.ip} took the connection and does not answer; "
                "restart it",
            ) from error
        self._open.append(api)
        return api

    def _bounded(self, what: str, function: Any, timeout_s: float) -> Any:
        try:
            return self._calls.call(function, timeout_s)
        except TimeoutError as error:
            raise RobotFault("sdk_timeout", f"{what}: {error}") from error
        except RobotFault:
            raise
        except Exception as error:
            # The SDK raises whatever its own code ran into; the arm is not to go on for it.
            raise RobotFault("sdk_error", f"{what}: the SDK raised {error!r}") from error
