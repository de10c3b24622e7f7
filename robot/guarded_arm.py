"""The arm as the control loop has it: everything goes through the guard, which alone may touch it.

A command is a message that is sent and not waited for; what the guard and the arm are like is read
from the guard's newest report. Only `connect` and `reset` wait. A guard that has said nothing for a
quarter of a second is a fault, and no fault is cleared from here: a person does that.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from robot.clock import Clock
from robot.guard_link import Link, LinkEnded
from robot.guard_messages import (
    Answer,
    Close,
    Command,
    Hello,
    Hold,
    Message,
    Report,
    Reset,
    Rest,
    Stop,
    Waiting,
)
from robot.guard_wire import WireError, pack, unpack
from robot.interfaces import ArmState, ResetAbandoned, RobotFault, StartPose, ToolTarget
from robot.safety import SafetyLimits

_SILENT_NS = 250_000_000
_LOOK_NS = 5_000_000
_ANSWER_NS = 5_000_000_000
_RESET_NS = 40_000_000_000


class GuardedArm:
    """An `Arm` behind a guard. One thread at a time, but for a hold that is asked for aside.

    Args:
        open_link: Opens the link to the guard; LinkEnded while the guard is not there.
        clock: The guard's clock too: times of its reports are compared with it.
        period_ns: Time between two commands.
        limits: Of the gate before it, for the guard to compare with its own.
        connect_s: How long `connect` waits for the guard to be there.
        should_stop: Asked during a reset, which is broken off when it says so.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        clock: Clock,
        *,
        period_ns: int,
        limits: SafetyLimits,
        connect_s: float = 20.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._open_link, self._clock = open_link, clock
        self._hello = Hello(period_ns=period_ns, limits=limits)
        self._connect_s, self._should_stop = connect_s, should_stop
        self._link: Link | None = None
        self._report: Report | None = None
        self._answer: Answer | None = None
        self._fault: RobotFault | None = None
        self._looked_ns = self._back_ns = clock.now_ns()
        self._acks_at_fault = self._seq = self._num_resets = 0

    @property
    def fault(self) -> RobotFault | None:
        """The latched fault, the guard's or one found here; None while the arm may move."""
        with contextlib.suppress(RobotFault):
            self._drain()
        if self._report is not None and self._report.fault is not None:
            return self._report.fault
        return self._fault

    def connect(self) -> None:
        """Waits for the guard and makes this loop the one that drives.

        Raises:
            RobotFault: `guard_gone`, none answers; `guard_refused`, with the reasons.
        """
        if self._link is not None:
            return
        self._link = self._wait_for_link()
        self._report = self._answer = None
        try:
            self._send(self._hello)
            self._wait(lambda: self._answer is not None, _ANSWER_NS, "it does not answer")
            assert self._answer is not None
            if not self._answer.is_ok:
                raise RobotFault("guard_refused", self._answer.text)
            self._wait(lambda: self._report is not None, _ANSWER_NS, "it does not report")
        except RobotFault:
            self._drop_link()
            raise

    def reset(self, pose: StartPose) -> None:
        """Has the guard lead the arm to `pose`; returns once it rests there.

        Raises:
            RobotFault: Latched on the way, or it takes too long.
            ResetAbandoned: Asked to stop meanwhile. The guard brakes the arm, and is let go of.
        """
        self._check_ready()
        self._num_resets += 1
        number, said_ns = self._num_resets, self._clock.now_ns()
        self._send(Reset(number=number, pose=pose))

        def is_over() -> bool:
            nonlocal said_ns
            now_ns, report = self._clock.now_ns(), self._report
            if self._should_stop():
                self.close()
                raise ResetAbandoned("asked to stop on the way to the start")
            if now_ns - said_ns >= self._hello.period_ns // 2:
                # The guard holds an arm whose loop does not even wait for it.
                self._send(Waiting(t_ns=now_ns))
                said_ns = now_ns
            return self.fault is not None or (report is not None and report.reset_number == number)

        self._wait(is_over, _RESET_NS, "the arm does not get to the start")
        self._check_ready()

    def state(self) -> ArmState:
        """Returns the arm's state by the guard's newest report.

        Raises:
            RobotFault: `guard_silent`, it is too old; `guard_gone`; or the latched fault of an arm
                that the guard has not connected to yet because of it.
        """
        self._drain()
        if self._report is None:
            raise RobotFault("not_connected", "call connect() first")
        if (age_ns := self._report_age_ns()) > _SILENT_NS:
            what = f"its last report is {age_ns / 1e9:.3f} s old"
            self._wait(lambda: self._report_age_ns() <= _SILENT_NS, _SILENT_NS, what)
        if self._report.state is None:
            fault = self._report.fault or RobotFault("no_state", "the arm has not been looked at")
            raise fault.again()
        return self._report.state

    def command(self, target: ToolTarget) -> None:
        """Sends the target and returns at once."""
        self._check_ready()
        numbers = (*target.position_m, target.gripper_opening)
        if not all(math.isfinite(number) for number in numbers):
            fault = self._latch("target_not_finite", f"got {list(numbers)}")
            self.stop(fault)
            raise fault
        self._seq += 1
        self._send(Command(seq=self._seq, t_ns=self._clock.now_ns(), target=target))

    def rest(self) -> None:
        """Tells the guard that no target comes before the next reset."""
        if self._link is not None and self.fault is None:
            self._send(Rest())

    def hold(self, *, is_aside: bool = False) -> None:
        """Has the guard brake the arm where it is, until the next command."""
        if is_aside:
            # The link may be closed meanwhile, and the thread that drives finds that out.
            with contextlib.suppress(LinkEnded):
                if (link := self._link) is not None:
                    link.send(pack(Hold(t_ns=0)))
            return
        self._check_ready()
        self._send(Hold(t_ns=self._clock.now_ns()))

    def stop(self, cause: RobotFault | None = None) -> None:
        """Has the guard stop the arm and latch; latches here in any case."""
        latched = cause or RobotFault("stopped", "motion was stopped")
        self._latch(latched.code, latched.message)
        if self._link is not None:
            with contextlib.suppress(RobotFault):
                self._send(Stop(cause=cause))

    def clear_fault(self) -> None:
        """Refuses: only a person clears a fault, with `offworld actor ack`."""
        raise RobotFault("needs_a_person", "a fault is cleared with `offworld actor ack` only")

    def close(self) -> None:
        """Says farewell to the guard and lets go."""
        if self._link is not None:
            with contextlib.suppress(RobotFault):
                self._send(Close())
            self._drop_link()

    def _check_ready(self) -> None:
        if self._link is None and self._fault is None:
            raise RobotFault("not_connected", "call connect() first")
        if (fault := self.fault) is not None:
            raise fault.again()

    def _latch(self, code: str, message: str) -> RobotFault:
        """Holds a fault until a person has cleared the guard's; returns it to be raised."""
        if self._fault is None:
            self._fault = RobotFault(code, message)
            self._acks_at_fault = 0 if self._report is None else self._report.num_acks
        return RobotFault(code, message)

    def _send(self, message: Message) -> None:
        if self._link is None:
            raise self._latch("guard_gone", "there is no connection to the guard")
        try:
            self._link.send(pack(message))
        except LinkEnded as error:
            raise self._latch("guard_gone", str(error)) from error

    def _report_age_ns(self) -> int:
        return 0 if self._report is None else self._clock.now_ns() - self._report.t_ns

    def _drain(self) -> None:
        """Takes in everything that the guard has said."""
        now_ns = self._clock.now_ns()
        if now_ns - self._looked_ns > _SILENT_NS:
            self._back_ns = now_ns  # what waits here may be old: reports without room are dropped
        self._looked_ns = now_ns
        try:
            while self._link is not None and (raw := self._link.receive()) is not None:
                message = unpack(raw)
                if isinstance(message, Report):
                    self._report = message
                elif isinstance(message, Answer):
                    self._answer = message
        except (LinkEnded, WireError) as error:
            raise self._latch("guard_gone", str(error)) from error
        report = self._report
        if report is not None and report.num_acks > self._acks_at_fault and report.fault is None:
            self._fault = None

    def _wait(self, is_over: Callable[[], bool], longest_ns: int, what: str) -> None:
        until_ns = self._clock.now_ns() + longest_ns
        while True:
            # Before the look: a pause of this process after it would be taken for a silent guard.
            now_ns = self._clock.now_ns()
            self._drain()
            if is_over():
                return
            heard_ns = now_ns if self._report is None else self._report.t_ns
            is_silent = now_ns - max(heard_ns, self._back_ns) > _SILENT_NS
            if is_silent or now_ns > max(until_ns, self._back_ns + _SILENT_NS):
                raise self._latch("guard_silent", what)
            self._clock.sleep_until_ns(self._clock.now_ns() + _LOOK_NS)

    def _wait_for_link(self) -> Link:
        until_ns = self._clock.now_ns() + round(self._connect_s * 1e9)
        while True:
            try:
                return self._open_link()
            except LinkEnded as error:
                if (now_ns := self._clock.now_ns()) >= until_ns:
                    raise RobotFault("guard_gone", str(error)) from error
                self._clock.sleep_until_ns(now_ns + 4 * _LOOK_NS)

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
