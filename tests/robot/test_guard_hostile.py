"""Hostile actions and targets, through gate and guard: what the arm is told stays bounded.

On a simulated clock and without a socket. The arm at the end writes down all it is told; once it is
the real driver, on the vendor's SDK, and what the controller's double got on the wire is checked.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Iterator

import pytest

from robot.doubles.xarm_frames import Register
from robot.doubles.xarm_motion import TOOL_DOWN_RAD, KinematicBody
from robot.doubles.xarm_server import XArmController
from robot.guard_messages import Command
from robot.interfaces import ToolTarget
from robot.safety import SafetyLimits
from robot.xarm import XArm
from tests.robot import guard_rig
from tests.robot.guard_rig import LIMITS, PERIOD_NS, GuardClock, GuardRig
from tests.robot.hostile import START, AckedArm, RecordCheck, run_hostile_actions
from tests.robot.recording_arm import Entry, Kind
from tests.robot.xarm_rig import START_M, config_for, hurry_sdk


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of faults are thousands of lines."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def coarse_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard looks twice a period, not ten times: what it has sent is the same, but sooner."""
    monkeypatch.setattr(guard_rig, "CYCLE_NS", 50_000_000)


def test_a_hundred_thousand_hostile_actions_move_the_arm_within_its_limits(coarse_cycle):
    run_hostile_actions(GuardRig(), 100_000, random.Random(1))


@pytest.mark.slow
def test_a_million_hostile_actions_move_the_arm_within_its_limits(coarse_cycle):
    run_hostile_actions(GuardRig(), 1_000_000, random.Random(2))


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


def run_hostile_targets(rig: GuardRig, num_targets: int, rng: random.Random) -> None:
    """Has a loop without a gate send what no loop should; fails where the arm leaves its limits."""
    rig.guard.connect()
    arm = AckedArm(lambda: rig, rig.clock, period_ns=PERIOD_NS, limits=SafetyLimits())
    arm.rig = rig
    arm.connect()
    codes: dict[str, int] = {}
    seq, last = 0, START.position_m
    arm.reset(START)
    for _ in range(num_targets):
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
    assert check.num_targets > num_targets / 4
    assert {"target_not_finite", "target_outside_box", "step_too_long"} <= set(codes)
    assert rig.guard.report().num_ignored > num_targets / 20


def test_a_loop_without_a_gate_moves_the_arm_within_its_limits(coarse_cycle):
    run_hostile_targets(GuardRig(), 20_000, random.Random(3))


class DriverRig(GuardRig):
    """A guard over the real driver, on the vendor's SDK, and the double of the controller.

    The record is what the double obeyed, as it came over the wire.
    """

    rounding_m = 1e-7  # millimetres as 32-bit floats

    def __init__(self, controller: XArmController, clock: GuardClock) -> None:
        self.controller = controller
        self.body = controller.machine.body
        super().__init__(clock=clock)
        self.body.on_order = self._note

    def make_real(self) -> XArm:
        return XArm(config_for(self.controller), self.clock)

    def _note(self, kind: Kind, target_m: tuple[float, float, float]) -> None:
        x, y, z = self.body.pose()[0]
        entry = Entry(self.clock.now_ns(), kind, target_m, (x, y, z), self.body.speed_m_s)
        self.record.append(entry)


class NotingBody(KinematicBody):
    """Tells of every order that the controller gives it."""

    def __init__(self, t_ns: int) -> None:
        super().__init__(START_M, t_ns)
        self.on_order = lambda kind, target_m: None

    def move_to(self, position_m, speed_m_s, acceleration_m_s2) -> None:
        x, y, z = (float(c) for c in position_m)
        self.on_order("command", (x, y, z))
        super().move_to(position_m, speed_m_s, acceleration_m_s2)

    def halt(self, deceleration_m_s2) -> None:
        x, y, z = (float(c) for c in self.pose()[0])
        self.on_order("stop", (x, y, z))
        super().halt(deceleration_m_s2)


@contextlib.contextmanager
def driver_rig() -> Iterator[DriverRig]:
    clock = GuardClock()
    hurry_sdk()
    with XArmController(NotingBody(clock.now_ns()), clock, slow_every=2) as controller:
        rig = DriverRig(controller, clock)
        try:
            yield rig
        finally:
            rig.guard.shut_down()


def run_hostile_actions_through_sdk(num_actions: int, seed: int) -> None:
    with driver_rig() as rig:
        frames = FrameCheck(rig.controller)
        check = run_hostile_actions(rig, num_actions, random.Random(seed), frames.check)
    # Nothing was sent that the arm did not get, and each target was seen on the wire.
    assert frames.num_taken == check.num_targets
    # What is checked as a hold was one, and what was sent to brake like one is checked as that.
    assert frames.num_holds == len(rig.holds) > 0


class FrameCheck:
    """Checks every motion frame on the wire, whether the controller obeyed it or not."""

    def __init__(self, controller: XArmController) -> None:
        self._machine = controller.machine
        self.num_taken = self.num_holds = 0

    def check(self) -> None:
        with self._machine.lock:
            frames = list(self._machine.motions)
            self._machine.motions.clear()
        for frame in frames:
            assert (frame.register, frame.mode) == (Register.MOVE_LINE, 7), frame
            assert LIMITS.contains(frame.position_m, DriverRig.rounding_m), frame
            assert frame.speed_m_s <= LIMITS.max_speed_m_s + 1e-6, frame
            is_hold = frame.acceleration_m_s2 == pytest.approx(LIMITS.hold_acceleration_m_s2)
            self.num_holds += is_hold
            if not is_hold:
                assert frame.acceleration_m_s2 <= LIMITS.max_acceleration_m_s2 + 1e-6, frame
            assert frame.rotation_rad == pytest.approx(TOOL_DOWN_RAD), frame
            self.num_taken += frame.is_taken


def test_hostile_actions_reach_the_wire_within_the_limits(coarse_cycle):
    run_hostile_actions_through_sdk(1_500, seed=4)


@pytest.mark.slow
def test_a_hundred_thousand_hostile_actions_reach_the_wire_within_the_limits(coarse_cycle):
    run_hostile_actions_through_sdk(100_000, seed=5)


@pytest.mark.slow
def test_a_loop_without_a_gate_reaches_the_wire_within_the_limits(coarse_cycle):
    with driver_rig() as rig:
        frames = FrameCheck(rig.controller)
        run_hostile_targets(rig, 1_000, random.Random(6))
        frames.check()
    assert frames.num_taken > 250
