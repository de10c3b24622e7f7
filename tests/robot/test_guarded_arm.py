"""The loop's side of the guard, and the contract of arms, without a socket."""

from __future__ import annotations

from robot.guard_wire import Ack
from robot.guarded_arm import GuardedArm
from robot.safety import SafetyLimits
from tests.contracts.arm import ArmContract
from tests.robot.guard_rig import PERIOD_NS, GuardRig


class AckedArm(GuardedArm):
    """Has a person at hand whenever a fault is to be cleared."""

    rig: GuardRig

    def clear_fault(self) -> None:
        self.rig.take(Ack())


class TestGuardedArm(ArmContract):
    def make_arm(self):
        rig = GuardRig()
        rig.guard.connect()
        arm = AckedArm(lambda: rig, rig.clock, period_ns=PERIOD_NS, limits=SafetyLimits())
        arm.rig = rig
        return arm, rig.clock
