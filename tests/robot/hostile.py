"""Hostile actions and targets, and the check of all that an arm was told because of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

from robot.env import RobotEnv
from robot.guard_messages import Ack, Phase
from robot.guard_motion import LEAD_NS
from robot.guard_path import clipped
from robot.guarded_arm import GuardedArm
from robot.interfaces import RobotFault, StartPose
from robot.observation import make_spec
from robot.safety import SafetyGate, SafetyLimits
from tests.robot.guard_rig import LIMITS, PERIOD_NS, GuardRig
from tests.robot.recording_arm import Entry

START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)
SCALE = (0.0225, 0.0225, 0.0225, 0.25)


class StartTask:
    def begin(self, seed: int, position_index: int | None) -> StartPose:
        return START

    def truth(self):
        return None


class NoReward:
    def begin(self, observation) -> None: ...

    def __call__(self, observation) -> float:
        return 0.0

    def is_success(self, reward: float) -> bool:
        return False


class AckedArm(GuardedArm):
    rig: GuardRig

    def clear_fault(self) -> None:
        self.rig.take(Ack())


def make_env(rig: GuardRig) -> RobotEnv:
    rig.guard.connect()
    spec = make_spec(
        task="hostile",
        camera_names=(),
        image_size=8,
        action_names=("x", "y", "z", "gripper"),
        action_scale=SCALE,
        control_hz=1e9 / PERIOD_NS,
        max_steps=100,
    )
    arm = AckedArm(lambda: rig, rig.clock, period_ns=PERIOD_NS, limits=SafetyLimits())
    arm.rig = rig
    gate = SafetyGate(
        SafetyLimits(),
        action_names=spec.action_names,
        action_scale=spec.action_scale,
        period_s=PERIOD_NS * 1e-9,
    )
    return RobotEnv(
        arm=arm,
        cameras=[],
        reward=NoReward(),
        gate=gate,
        task=StartTask(),
        spec=spec,
        clock=rig.clock,
    )


def hostile_action(rng: random.Random, pull: list[float]) -> np.ndarray:
    """Returns one action: mostly along the border, now and then what no policy should give."""
    kind = rng.random()
    if kind < 0.004:
        return np.array([rng.choice([math.nan, math.inf, -math.inf])] * rng.randint(1, 4) + [0.0])
    if kind < 0.006:
        return np.zeros(rng.choice([0, 1, 3, 5, 400]))
    if kind < 0.05:
        return np.array([rng.choice([1e38, -1e38, 5e-324, 1e300, -0.0, 7.0]) for _ in range(4)])
    if kind < 0.08:
        pull[:] = [rng.uniform(-2, 2) for _ in range(4)]
    if kind < 0.5:
        return np.array([p + rng.gauss(0, 0.5) for p in pull])
    return np.array([rng.uniform(-1.2, 1.2) for _ in range(4)], dtype=np.float32)


class RecordCheck:
    """Checks every target that an arm was told, in the order they came."""

    def __init__(self, rig: GuardRig) -> None:
        self._rig = rig
        self.num_targets = 0
        """So many were checked."""
        self._used_m = 0.0
        self._last: Entry | None = None

    def check(self, record: list[Entry]) -> None:
        """Takes the next part of a record; fails at the first target out of bounds."""
        for entry in record:
            assert LIMITS.contains(entry.place, 0.01), entry  # it may swing through a turn
            if entry.kind == "stop":
                self._last = None
                continue
            self.num_targets += 1
            assert LIMITS.contains(entry.target, self._rig.rounding_m), entry
            self._check_way(entry)
            self._last = entry

    def _check_way(self, entry: Entry) -> None:
        speed, period_s, last = LIMITS.max_speed_m_s, PERIOD_NS * 1e-9, self._last
        rounding_m = 1e-8 + 2 * self._rig.rounding_m
        if entry in self._rig.holds:  # the path ends where the arm can brake as a hold does
            braking_m = speed**2 / (2 * LIMITS.hold_acceleration_m_s2) + speed * LEAD_NS * 1e-9
            # From within the box: an arm that swung out of it is held on the border.
            inside = clipped(entry.place, LIMITS.box_low_m, LIMITS.box_high_m)
            assert math.dist(entry.target, inside) <= braking_m + 1e-6, entry
            self._used_m = 0.0
            return
        if last is None:  # the first one after a stop begins where the arm is
            self._used_m = step_m = math.dist(entry.target, entry.place)
        else:
            passed_s = (entry.t_ns - last.t_ns) * 1e-9
            assert passed_s >= period_s / 2 - 1e-9
            step_m = math.dist(entry.target, last.target)
            self._used_m = max(self._used_m - speed * passed_s, 0.0) + step_m
        assert step_m <= speed * period_s + rounding_m, (last, entry)
        assert self._used_m <= 1.5 * speed * period_s + rounding_m, (last, entry)


def run_hostile_actions(
    rig: GuardRig,
    num_actions: int,
    rng: random.Random,
    look: Callable[[], None] = lambda: None,
) -> RecordCheck:
    """Has a loop with a gate do what no policy should; fails at the first target out of bounds.

    Args:
        rig: Its guard is connected here.
        num_actions: How many.
        rng: Decides all of them.
        look: Called when the record is checked.

    Returns:
        What has checked the record.
    """
    env = make_env(rig)
    env.reset(0)
    pull = [0.0] * 4
    check, is_latched = RecordCheck(rig), True
    codes: list[str] = []
    for index in range(num_actions):
        try:
            env.apply(hostile_action(rng, pull))
        except RobotFault as fault:
            codes.append(fault.code)
            is_latched &= rig.guard.phase is Phase.LATCHED
            rig.clock.advance(PERIOD_NS)
            env.reset_by_person()
            env.reset(0)
        wait = rng.random()
        rig.clock.advance(
            PERIOD_NS
            if wait < 0.9
            else round(rng.uniform(0.01, 4.0 if wait > 0.99 else 1.5) * PERIOD_NS)
        )
        if index % 500 == 499:
            look()
            check.check(rig.record)
            rig.record.clear()
    assert rig.guard.report().num_ignored == 0
    assert is_latched
    assert set(codes) <= {"action_not_finite", "action_size", "loop_gone"}
    assert len(codes) > num_actions / 500
    assert check.num_targets > num_actions / 2
    return check
