"""The loop's side of the guard, and the contract of arms, without a socket."""

from __future__ import annotations

import numpy as np

from protos.trial import Provenance, Source
from robot.clock import SimulatedClock
from robot.collect import collect_trial
from robot.guard_messages import Ack, Phase
from robot.guarded_arm import GuardedArm
from robot.interfaces import StartPose
from robot.safety import SafetyLimits
from tests.contracts.arm import ArmContract
from tests.robot.guard_rig import PERIOD_NS, GuardRig
from tests.robot.hostile import make_env


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


class Still:
    def begin(self, rng: np.random.Generator) -> None: ...

    def act(self, observation) -> np.ndarray:
        return np.array([0.1, -0.1, 0.0, 0.0])


def test_a_trial_that_is_over_may_be_followed_by_any_silence():
    rig = GuardRig()
    env = make_env(rig)
    provenance = Provenance(
        actor="a", incarnation="i", source=Source.OFFLINE, seed=1, started_unix_ns=1, software="t"
    )
    for _ in range(2):
        trial = collect_trial(env, Still(), provenance, rng=np.random.default_rng(0))
        assert len(trial.steps["reward"]) == env.spec.max_steps
        rig.clock.advance(60 * 10**9)
        assert (rig.guard.phase, env.fault) == (Phase.READY, None)
    assert rig.guard.report().num_holds == 0


def test_a_pause_of_this_process_between_its_look_and_the_clock_is_no_silence_of_the_guard():
    rig = GuardRig()
    rig.guard.connect()
    arm = rig.make_arm()
    arm.connect()
    receive, num_empty = rig.receive, 0

    def receive_and_pause() -> bytes | None:
        nonlocal num_empty
        raw = receive()
        num_empty += raw is None
        if raw is None and num_empty in (10, 41):
            SimulatedClock.sleep_until_ns(rig.clock, rig.clock.now_ns() + 300_000_000)
        return raw

    rig.receive = receive_and_pause
    arm.reset(StartPose(position_m=(0.50, 0.10, 0.05)))
    assert num_empty > 40
