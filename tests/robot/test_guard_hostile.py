"""Hostile actions and targets, through gate and guard: what the arm is told stays bounded.

On a simulated clock and without a socket; the arm at the end writes down all it is told.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest

from robot.env import RobotEnv
from robot.guard_messages import Ack, Command, Phase
from robot.guarded_arm import GuardedArm
from robot.interfaces import RobotFault, StartPose, ToolTarget
from robot.observation import make_spec
from robot.safety import SafetyGate, SafetyLimits
from tests.robot import guard_rig
from tests.robot.guard_rig import LIMITS, PERIOD_NS, GuardRig
from tests.robot.recording_arm import Entry

START = StartPose(position_m=(0.40, 0.0, 0.12), gripper_opening=0.6)
SCALE = (0.0225, 0.0225, 0.0225, 0.25)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of faults are thousands of lines."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


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
            assert LIMITS.contains(entry.target), entry
            self._check_way(entry)
            self._last = entry

    def _check_way(self, entry: Entry) -> None:
        speed, period_s, last = LIMITS.max_speed_m_s, PERIOD_NS * 1e-9, self._last
        braking_m = speed**2 / (2 * LIMITS.max_acceleration_m_s2)
        if entry in self._rig.holds:  # the path ends where the arm can brake
            assert math.dist(entry.target, entry.place) <= braking_m + 1e-6, entry
            self._used_m = 0.0
            return
        if last is None:  # the first one after a stop begins where the arm is
            self._used_m = step_m = math.dist(entry.target, entry.place)
        else:
            passed_s = (entry.t_ns - last.t_ns) * 1e-9
            assert passed_s >= period_s / 2 - 1e-9
            step_m = math.dist(entry.target, last.target)
            self._used_m = max(self._used_m - speed * passed_s, 0.0) + step_m
        assert step_m <= speed * period_s + 1e-8, (last, entry)
        assert self._used_m <= 1.5 * speed * period_s + 1e-8, (last, entry)


def run_hostile_actions(num_actions: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_rig, "CYCLE_NS", 50_000_000)
    rng, rig = random.Random(seed), GuardRig()
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
        if index % 1000 == 999:
            check.check(rig.record)
            rig.record.clear()
    assert rig.guard.report().num_ignored == 0
    assert is_latched
    assert set(codes) <= {"action_not_finite", "action_size", "loop_gone"}
    assert len(codes) > num_actions / 500
    assert check.num_targets > num_actions / 2


def test_a_hundred_thousand_hostile_actions_move_the_arm_within_its_limits(monkeypatch):
    run_hostile_actions(100_000, seed=1, monkeypatch=monkeypatch)


@pytest.mark.slow
def test_a_million_hostile_actions_move_the_arm_within_its_limits(monkeypatch):
    run_hostile_actions(1_000_000, seed=2, monkeypatch=monkeypatch)


def hostile_target(rng: random.Random, last: tuple[float, ...]) -> ToolTarget:
    """Returns a target as a loop without a gate might send it."""
    kind = rng.random()
    if kind < 0.70:
        place = tuple(at + rng.gauss(0, 0.01) for at in last)
    elif kind < 0.85:
        place = tuple(
            rng.choice(ends) for ends in zip(LIMITS.box_low_m, LIMITS.box_high_m, strict=True)
        )
    else:
        odd = [math.nan, math.inf, -math.inf, 1e38, 5e-324, 0.0, 1e-7 + 0.55]
        place = tuple(rng.choice([at, rng.choice(odd)]) for at in last)
    x, y, z = place
    return ToolTarget(
        position_m=(x, y, z),
        gripper_opening=rng.choice([0.0, 0.5, 1.0, 1.0 + 1e-7, 2.0]) if kind < 0.1 else 0.5,
    )


def test_a_loop_without_a_gate_moves_the_arm_within_its_limits(monkeypatch):
    monkeypatch.setattr(guard_rig, "CYCLE_NS", 50_000_000)
    rng, rig = random.Random(3), GuardRig()
    rig.guard.connect()
    arm = AckedArm(lambda: rig, rig.clock, period_ns=PERIOD_NS, limits=SafetyLimits())
    arm.rig = rig
    arm.connect()
    codes: dict[str, int] = {}
    seq, last = 0, START.position_m
    arm.reset(START)
    for _ in range(20_000):
        seq += rng.choice([1, 1, 1, 1, 0, -1])
        target = hostile_target(rng, last)
        t_ns = rig.clock.now_ns() - rng.choice([0, 0, 0, 10**9, -(10**9)])
        rig.take(Command(seq=max(seq, 0), t_ns=t_ns, target=target))
        rig.clock.advance(
            rng.choice([0, PERIOD_NS // 10, PERIOD_NS // 2, PERIOD_NS, 3 * PERIOD_NS])
        )
        if (fault := rig.guard.fault) is not None:
            codes[fault.code] = codes.get(fault.code, 0) + 1
            rig.clock.advance(2 * PERIOD_NS)
            arm.clear_fault()
            arm.reset(START)
            last = START.position_m
        elif LIMITS.contains(target.position_m):
            last = target.position_m
    check = RecordCheck(rig)
    check.check(rig.record)
    assert check.num_targets > 5000
    assert {"target_not_finite", "target_outside_box", "step_too_long"} <= set(codes)
    assert rig.guard.report().num_ignored > 1000
