"""The guard of one arm: the last to look at a target, and the one who notices that none comes.

It is driven by `step`, a hundred times a second, and by what a loop and people ask for; it never
waits. Every target of the loop is checked again: one that breaks a limit is never sent and latches.
Others are sent along a path whose speed and acceleration are bounded by the guard's own clock.

While the arm moves, silence of some two periods makes it brake and hold, as does a loop that sees
nothing new; silence of a second, or a loop that is gone, latches. On the way to a start a loop
sends no targets, but says that it waits. A latched fault lies on disk until a person clears it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from robot.clock import Clock
from robot.fault_store import FaultLatch, FaultStore
from robot.guard_checks import ArmWatch, LoopWatch, TargetCheck
from robot.guard_limits import GuardLimits, LimitsRefused
from robot.guard_messages import Phase, Report
from robot.guard_resetting import ResetRun
from robot.guard_steering import Steering
from robot.guard_stopping import Stopping
from robot.interfaces import CONTROLLER_ERROR, NOT_CONFIRMED, Arm, RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits

logger = logging.getLogger(__name__)

_TARGETS_COUNT = (Phase.READY, Phase.MOVING, Phase.HELD)


class AckRefused(RuntimeError):
    """A fault cannot be cleared yet; the message says what stands against it."""


class Guard:
    """Watches over one arm. One thread.

    Args:
        arm: Nobody else commands it. Its own `reset` is not used: the guard leads the arm to the
            start along its path, so that a stop is heard on the way and every target is bounded.
        limits: What must hold.
        clock: Dates targets and silences; the clock of the arm's time stamps.
        faults: Where a latched fault is kept. One that is found there is latched at once.
    """

    def __init__(self, arm: Arm, limits: GuardLimits, clock: Clock, faults: FaultStore) -> None:
        self._arm, self._limits, self._clock = arm, limits, clock
        self._latched = FaultLatch(faults)
        self._watch = ArmWatch(arm, limits, clock)
        self._check, self._loop = TargetCheck(limits), LoopWatch()
        self._steering = Steering(arm, limits, clock)
        self._reset = ResetRun(limits, self._steering, self._watch, self._loop, self._hold)
        self._stopping = Stopping(arm, clock)
        self._is_connected = False
        self._phase = Phase.IDLE if self._latched.fault is None else Phase.LATCHED
        self._period_ns: int | None = None
        self._seq = self._reset_number = 0
        self._num_holds = self._num_ignored = self._num_acks = 0

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        return self._phase

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, or None."""
        return self._latched.fault

    @property
    def is_moving(self) -> bool:
        """Whether the arm may be in motion by the guard's will."""
        return self._phase in (Phase.RESETTING, Phase.MOVING, Phase.HELD)

    @property
    def due_ns(self) -> int | None:
        """When a `step` should come though it is not its turn yet; None for no hurry."""
        return self._loop.hold_ns if self._phase is Phase.MOVING else None

    def connect(self) -> None:
        """Makes the arm ready to move, unless a fault is latched: then `acknowledge` does.

        An error that the controller has from before is latched like one of now.

        Raises:
            RobotFault: The arm cannot be made ready.
        """
        if self._phase is Phase.LATCHED:
            return
        try:
            self._arm.connect()
            self._is_connected = True
        except RobotFault as fault:
            if not fault.code.startswith(CONTROLLER_ERROR):
                raise
            self._latch(fault)

    def attach(self, period_ns: int, limits: SafetyLimits) -> None:
        """Takes a loop as the one that drives.

        Args:
            period_ns: Time between two of its targets.
            limits: Of its own gate.

        Raises:
            LimitsRefused: It would go further than the guard lets it, or another one drives.
        """
        if self._period_ns is not None:
            raise LimitsRefused("another loop drives this arm")
        if excess := self._limits.excess_of(period_ns * 1e-9, limits):
            raise LimitsRefused("\n".join(["the loop goes further than the guard:", *excess]))
        self._period_ns = self._loop.period_ns = period_ns
        self._steering.set_period(period_ns)
        self._seq = self._reset_number = 0

    def detach(self, *, is_farewell: bool) -> None:
        """Lets go of the loop; while targets were due, one that says no farewell is a fault."""
        if self.is_moving and not is_farewell:
            self._latch(RobotFault("loop_gone", "the loop's connection ended while it drove"))
        elif self.is_moving:
            self._guarded(self._halt)
        self._period_ns = None
        if self._phase is not Phase.LATCHED:
            self._phase = Phase.IDLE

    def reset(self, number: int, pose: StartPose) -> None:
        """Sets out for `pose`; `report` gives `number` back once the arm rests there.

        Args:
            number: Chosen by the loop.
            pose: Inside the box, or the fault `start_outside_box` latches.
        """
        if self._phase is Phase.LATCHED or self._period_ns is None:
            self._num_ignored += 1
            return
        if self._guarded(lambda: self._reset.begin(number, pose, self._clock.now_ns())):
            self._phase = Phase.RESETTING
            self._guarded(self._steering.go_on)

    def command(self, seq: int, target: ToolTarget, t_ns: int) -> None:
        """Takes the loop's newest target; what breaks a limit latches and is not sent.

        Args:
            seq: Number of the target; one that is not higher than the last is ignored.
            target: Where the loop wants the tool.
            t_ns: When the loop sent it. An old one counts for the loop's path, but is no sign of
                life and moves nothing.
        """
        if self._phase not in _TARGETS_COUNT or self._period_ns is None or seq <= self._seq:
            self._num_ignored += 1
            return
        self._seq = seq
        now_ns = self._clock.now_ns()
        if not self._guarded(lambda: self._steering.aim(self._check.check(target, now_ns))):
            return
        if not self._loop.heard(t_ns, now_ns):
            self._num_ignored += 1
            return
        self._phase = Phase.MOVING
        self._guarded(self._steering.go_on)

    def hold(self, t_ns: int) -> None:
        """Brakes the arm where it is, until the next target; the loop said so at `t_ns`."""
        if self._phase not in (Phase.MOVING, Phase.HELD):
            return
        self._loop.heard(t_ns, self._clock.now_ns())
        if self._phase is Phase.MOVING:
            self._phase = Phase.HELD
            self._guarded(self._hold)

    def wait(self, t_ns: int) -> None:
        """Takes note that the loop was there at `t_ns`, and waited for the end of a reset."""
        self._loop.heard(t_ns, self._clock.now_ns())

    def rest(self) -> None:
        """Expects no more targets: the trial is over, and the arm stays where it was sent."""
        if self._phase in (Phase.MOVING, Phase.HELD):
            self._phase = Phase.READY
            self._steering.rest()

    def stop(self, by: str, *, is_kept: bool, cause: RobotFault | None = None) -> bool:
        """Stops the arm and latches `cause`, or the fault `stopped`.

        Args:
            by: Who asked.
            is_kept: Whether the fault goes to disk though nothing was moving.
            cause: What they say is wrong.

        Returns:
            Whether the arm was told and, if it can say so, said that it stopped. If not, it is told
            again and again, once it is connected.
        """
        fault = cause or RobotFault("stopped", f"motion was stopped by {by}")
        self._latch(fault, is_kept=is_kept or self.is_moving)
        return self._is_connected and self._stopping.is_confirmed

    def acknowledge(self) -> RobotFault | None:
        """Clears the latched fault on a person's behalf; returns it, or None if there was none.

        Raises:
            AckRefused: Its cause is still there, or the disk does not forget it; it stays latched.
        """
        fault = self._latched.fault
        if fault is None:
            return None
        try:
            with contextlib.suppress(RobotFault):  # an error that clearing may take away
                self._arm.connect()
            self._arm.clear_fault()
            self._arm.connect()
            self._is_connected = True
            if (left := self._arm.fault) is not None:
                raise left.again()
            self._latched.clear()
        except (RobotFault, OSError) as error:
            raise AckRefused(f"{fault.code} cannot be cleared yet: {error}") from error
        self._watch.forget()
        self._phase = Phase.IDLE
        self._num_acks += 1
        return fault

    def step(self) -> None:
        """Looks at the arm and at the time, and does what is due."""
        if self._phase is Phase.LATCHED:
            self._latched.save_again(self._clock.now_ns())
            if self._is_connected:
                self._stopping.go_on()
                with contextlib.suppress(RobotFault):
                    self._watch.look()
        elif self._is_connected:
            self._guarded(self._do_what_is_due)

    def shut_down(self) -> None:
        """Stops the arm and lets go of it; what is latched stays on disk. A mere end is not latched
        unless an arm that moved does not confirm its stop."""
        try:
            if self._is_connected and not self._stopping.stop() and self.is_moving:
                self._latch(RobotFault("stop_not_confirmed", "the guard was asked to end"))
        finally:
            self._is_connected = False
            self._arm.close()

    def report(self) -> Report:
        """Returns how things are."""
        return Report(
            phase=self._phase,
            t_ns=self._clock.now_ns(),
            state=self._watch.state,
            fault=self._latched.fault,
            seq=self._seq,
            reset_number=self._reset_number,
            num_holds=self._num_holds,
            num_ignored=self._num_ignored,
            num_acks=self._num_acks,
        )

    def _guarded(self, act: Callable[[], None]) -> bool:
        """Does something, and latches the fault that it meets; returns whether it met none."""
        try:
            act()
        except RobotFault as fault:
            self._latch(fault)
            return False
        return True

    def _do_what_is_due(self) -> None:
        self._watch.look()
        now_ns = self._clock.now_ns()
        if self._phase is Phase.RESETTING:
            self._watch.check_follows(self._steering.place)
            if self._reset.go_on(now_ns):
                self._check.start(self._steering.goal.position_m)
                self._reset_number, self._phase = self._reset.number, Phase.READY
        elif self._phase in (Phase.MOVING, Phase.HELD):
            self._watch.check_pose()
            self._watch.check_follows(self._steering.place)
            if self._loop.is_silent(now_ns) and self._phase is Phase.MOVING:
                self._phase = Phase.HELD
                self._hold()
            elif self._phase is Phase.MOVING:
                self._steering.go_on(is_last=self._loop.is_late(now_ns))

    def _hold(self) -> None:
        self._num_holds += 1
        self._halt()

    def _halt(self) -> None:
        here, place = self._watch.stopping_place(self._steering.braking_m_s2)
        self._steering.halt(place, here=here, is_still=self._watch.is_still)

    def _latch(self, fault: RobotFault, *, is_kept: bool = True) -> None:
        doing, self._phase = self._phase.name.lower(), Phase.LATCHED
        if self._is_connected and not self._stopping.stop():
            fault = RobotFault(fault.code, f"{fault.message}; {NOT_CONFIRMED}")
        self._latched.latch(fault, doing=doing, is_kept=is_kept, t_ns=self._clock.now_ns())
