"""The xArm 7, through the vendor's SDK, in the controller's mode 7: each target replaces the last
with continuous velocity, within the configured speed and acceleration.

If this process dies the arm ends at its last target, one bounded step away. A fault latches and is
cleared by nothing but `clear_fault`; the controller's own fence, collision detection and speed
limit are set, read back, and stand behind whatever this driver does.
"""

from __future__ import annotations

import logging
import math
import threading

from robot.clock import Clock
from robot.interfaces import NOT_CONFIRMED, ArmState, RobotFault, StartPose, ToolTarget
from robot.xarm_codes import state_fault
from robot.xarm_config import XArmConfig
from robot.xarm_gripper import XArmGripper
from robot.xarm_lines import TOOL_DOWN_RAD, XArmLines
from robot.xarm_reports import Measured
from robot.xarm_reset import Arrival, Place, ResetWay, reset_path
from robot.xarm_units import to_mm

logger = logging.getLogger(__name__)
_POLL_NS = 10_000_000
_GRIPPER_WAIT_S = 2.0


class XArm:
    """One xArm 7 with its gripper. One thread drives it; `stop` and `fault` are for any thread.

    Args:
        config: Where it is, and what it is held to.
        clock: Dates measurements and paces resets.
        way: Of `reset`, which no guard uses.
    """

    def __init__(self, config: XArmConfig, clock: Clock, way: ResetWay | None = None) -> None:
        self._config, self._clock, self._way = config, clock, way or ResetWay()
        self._latching = threading.Lock()
        self._fault: RobotFault | None = None
        self._lines: XArmLines | None = None
        self._gripper: XArmGripper | None = None
        self._measured: Measured | None = None
        self._opening = 1.0
        self._is_wanted = self._is_failing = False
        self.is_stop_confirmed = True
        """Whether the controller took the last stop, or stands still for an error of its own."""

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None while the arm may move."""
        return self._fault

    def connect(self) -> None:
        """Connects, sets the controller up and enables the arm; does nothing once connected.

        Raises:
            RobotFault: The controller is not there (`not_connected`, and may be tried again), or
                anything about it is not as configured (latched).
        """
        if self._lines is not None:
            return
        self._is_wanted = True
        self._make_ready(self._open())

    def reset(self, pose: StartPose) -> None:
        """Opens or closes the gripper, lifts the tool, crosses, and descends to `pose`.

        Raises:
            RobotFault: Latched already, or the arm did not get there in time.
        """
        lines = self._check_ready()
        self._check_target(pose.position_m, pose.gripper_opening)
        deadline_ns = self._clock.now_ns() + round(self._way.timeout_s * 1e9)
        self._set_gripper(pose.gripper_opening)
        self._wait_for_gripper(pose.gripper_opening, deadline_ns)
        start = self.state().position_m
        for place in reset_path(start, pose.position_m, self._way.height_m):
            self._raise_if_latched()
            self._send(lines, place, self._way.speed_m_s, self._way.acceleration_m_s2)
            self._wait_until_at(place, deadline_ns)
        self._check_rotation()

    def state(self) -> ArmState:
        """Returns where the arm is, or was last; latches what is found wrong instead of raising.

        Raises:
            RobotFault: `not_connected`, nothing was ever measured.
        """
        if self._lines is not None:
            self._measure(self._lines)
        measured = self._measured
        if measured is None:
            raise RobotFault("not_connected", "call connect() first")
        opening, is_stuck = self._opening, False
        if self._gripper is not None:
            opening, is_stuck = self._gripper.measured
        return ArmState(
            position_m=measured.position_m,
            rotation_rad=measured.rotation_rad,
            gripper_opening=opening,
            is_gripper_stuck=is_stuck,
            t_ns=measured.t_ns,
        )

    def command(self, target: ToolTarget) -> None:
        """Sends a target, and the gripper's if it changed.

        Returns when the controller has taken it, a millisecond later; RobotFault if it has not
        within the configured time, or for a target outside the fence.
        """
        self.brake(target, self._config.acceleration_m_s2)

    def brake(self, target: ToolTarget, deceleration_m_s2: float) -> None:
        """Sends a target with a change of speed of its own; as `command` else."""
        lines = self._check_ready()
        self._check_target(target.position_m, target.gripper_opening)
        if self._is_failing:
            return  # the gripper's thread has stopped the arm; why, the next look tells
        self._send(lines, target.position_m, self._config.speed_m_s, deceleration_m_s2)
        # A stop may have come while the answer was awaited.
        self._raise_if_latched()
        self._set_gripper(target.gripper_opening)

    def stop(self, cause: RobotFault | None = None) -> None:
        """Stops arm and gripper on connections of their own, so that no slow answer holds it up,
        and latches."""
        self._halt()
        if not self.is_stop_confirmed:
            self._latch(RobotFault("stop_not_confirmed", NOT_CONFIRMED))
        # Asked for, and not by what is wrong with the arm: whoever asked says why.
        self._latch(cause or RobotFault("stopped", "motion was stopped"), level=logging.INFO)

    def clear_fault(self) -> None:
        """Clears the controller's error on a person's behalf, and sets everything up again.

        Raises:
            RobotFault: What is still wrong; it is latched instead.
        """
        if self._is_wanted:
            lines = self._lines
            if lines is None or not lines.is_usable:
                # A call given up may end later and move the arm: without a connection it cannot.
                self._close_lines()
                lines = self._open()
            lines.clear_errors()
            self._make_ready(lines, is_repair=True)
        self._fault = None

    def close(self) -> None:
        """Stops motion and lets go of the connections."""
        self._halt()
        self._is_wanted = False
        self._close_lines()

    def _open(self) -> XArmLines:
        lines = XArmLines(self._config, self._clock)
        if lines.gripper is not None:
            self._gripper = XArmGripper(
                lines.gripper, self._config, self._clock, lambda f: self._fail(f, lines)
            )
        self._lines = lines
        return lines

    def _close_lines(self) -> None:
        gripper, lines = self._gripper, self._lines
        self._gripper = self._lines = None
        if gripper is not None:
            gripper.close()
        if lines is not None:
            lines.close()

    def _make_ready(self, lines: XArmLines, *, is_repair: bool = False) -> None:
        try:
            lines.make_ready()
            if self._gripper is not None:
                if is_repair:
                    self._gripper.repair()
                self._gripper.start()
            self._measured = lines.ask()
        except RobotFault as fault:
            # An arm that is in use is not ours to stop.
            (self._close_lines if fault.code == "arm_in_use" else self._halt)()
            self._fault = fault
            raise

    def _measure(self, lines: XArmLines) -> None:
        measured = lines.reports.fresh()
        try:
            if not lines.is_connected:
                raise RobotFault("connection_lost", "a connection to the controller is gone")
            if measured is None:
                measured = lines.ask()
        except RobotFault as fault:
            if self._fault is None:
                self._fail(fault, lines)
            return
        if self._measured is None or measured.t_ns > self._measured.t_ns:
            self._measured = measured  # else a report that was on its way when the arm was asked
        if self._fault is not None or self._is_failing:
            return
        fault = state_fault(measured.state)
        if self._gripper is not None and self._gripper.fault is not None:
            self._fail(self._gripper.fault, lines)
        elif fault is not None or lines.reported_error != 0:
            self._look_into(lines, fault)
        elif lines.report_fault is not None:
            self._fail(lines.report_fault)

    def _look_into(self, lines: XArmLines, fault: RobotFault | None) -> None:
        """Latches what a report hints at, if the controller, asked now, says so too."""
        state = lines.state()
        now = None if state is None else state_fault(state)
        found = lines.error_or(now or RobotFault("none", ""))
        if found.code != "none":
            self._fail(found)
        elif state is None and fault is not None:
            self._fail(fault)

    def _send(
        self, lines: XArmLines, position_m: Place, speed_m_s: float, acceleration_m_s2: float
    ) -> None:
        fault = lines.move(to_mm(position_m), 1000.0 * speed_m_s, 1000.0 * acceleration_m_s2)
        if fault is not None:
            raise self._fail(fault, None if fault.code == "sdk_timeout" else lines)

    def _set_gripper(self, opening: float) -> None:
        self._opening = min(max(opening, 0.0), 1.0)
        if self._gripper is not None:
            self._gripper.set(self._opening)

    def _wait_for_gripper(self, opening: float, deadline_ns: int) -> None:
        while self._gripper is not None:
            try:
                measured, is_stuck = self._gripper.wait_measured(_GRIPPER_WAIT_S)
            except RobotFault as fault:
                self._raise_if_latched()
                raise self._fail(fault) from fault
            if is_stuck or abs(measured - opening) <= self._config.gripper_tolerance:
                return
            self._pause(deadline_ns, f"the gripper is at {measured:.2f} of {opening:.2f}")

    def _wait_until_at(self, place: tuple[float, float, float], deadline_ns: int) -> None:
        arrival = Arrival(place, self._config.position_tolerance_m)
        while not arrival.take(self.state()):
            self._pause(deadline_ns, f"the tool is {arrival.distance_m:.4f} m away")

    def _pause(self, deadline_ns: int, where: str) -> None:
        self._raise_if_latched()
        if self._clock.now_ns() >= deadline_ns:
            late = f"{where}, {self._way.timeout_s:g} s are over"
            raise self._fail(RobotFault("reset_timeout", late))
        self._clock.sleep_until_ns(self._clock.now_ns() + _POLL_NS)

    def _check_rotation(self) -> None:
        turns = zip(self.state().rotation_rad, TOOL_DOWN_RAD, strict=True)
        worst = max(abs(math.remainder(turn - wished, math.tau)) for turn, wished in turns)
        if worst > self._config.rotation_tolerance_rad:
            text = f"the tool is {worst:.3f} rad off straight down"
            raise self._fail(RobotFault("reset_rotation", text))

    def _check_ready(self) -> XArmLines:
        self._raise_if_latched()
        if self._lines is None:
            raise RobotFault("not_connected", "call connect() first")
        return self._lines

    def _check_target(self, position_m: tuple[float, float, float], opening: float) -> None:
        if not all(math.isfinite(x) for x in (*position_m, opening)):
            raise self._fail(RobotFault("target_not_finite", f"got {position_m}, {opening}"))
        if not self._config.is_inside_fence(position_m):
            raise self._fail(RobotFault("target_outside_fence", f"{position_m} m is outside"))

    def _raise_if_latched(self) -> None:
        if self._fault is not None:
            raise self._fault.again()

    def _fail(self, fault: RobotFault, lines: XArmLines | None = None) -> RobotFault:
        """Stops the arm, latches the fault or the error that `lines` tell of; what to raise."""
        self._is_failing = True
        self._halt()
        fault = fault if lines is None else lines.error_or(fault)
        self._latch(fault)
        self._is_failing = False
        return fault.again()

    def _halt(self) -> None:
        lines, gripper = self._lines, self._gripper
        if gripper is not None:
            gripper.hold()
        # Without a connection an arm that there was one to may be on its way.
        self.is_stop_confirmed = not self._is_wanted if lines is None else lines.stop()

    def _latch(self, fault: RobotFault, *, level: int = logging.ERROR) -> None:
        with self._latching:
            if self._fault is None:
                self._fault = fault
                logger.log(level, "the arm is stopped: %s", fault)
