"""A hold ends where the arm can brake, whatever the times of its states are worth."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from robot.guard_messages import Phase
from robot.guard_motion import BASE_NS, LEAD_NS, Rest, ToolMotion
from robot.interfaces import ArmState
from tests.robot.guard_rig import LIMITS, PERIOD_NS, START, Drive, GuardRig, moved

MS = 1_000_000
SPEED = LIMITS.max_speed_m_s
AHEAD_M = SPEED**2 / (2 * LIMITS.max_acceleration_m_s2)
"""The way to rest from full speed."""


def state_at(x_m: float, t_ns: int, opening: float = 0.5) -> ArmState:
    return ArmState(
        position_m=(x_m, 0.0, 0.1),
        rotation_rad=(math.pi, 0.0, 0.0),
        gripper_opening=opening,
        is_gripper_stuck=False,
        t_ns=t_ns,
    )


def test_a_speed_is_what_a_steady_motion_has():
    motion = ToolMotion(SPEED, LIMITS.max_acceleration_m_s2)
    for k in range(10):
        motion.take(state_at(0.4 + 0.002 * k, 10 * k * MS))
    assert motion.velocity_m_s == pytest.approx((0.2, 0.0, 0.0))
    x, _, _ = motion.stopping_place(10.0, 90 * MS)
    assert x == pytest.approx(0.418 + 0.2 * LEAD_NS * 1e-9 + 0.2**2 / 20)
    late_x, _, _ = motion.stopping_place(10.0, 110 * MS)
    assert late_x - x == pytest.approx(0.2 * 0.02)
    latest_x, _, _ = motion.stopping_place(10.0, 10**10)
    assert latest_x - x < 0.2 * 0.04


def is_resting_after(places_m: list[float], openings: list[float] | None = None) -> bool:
    rest = Rest()
    for k, place_m in enumerate(places_m):
        rest.take(state_at(place_m, 10 * k * MS, openings[k] if openings else 0.5))
    return rest.is_resting


def test_an_arm_rests_when_all_states_of_a_while_say_so_with_their_noise():
    rng = random.Random(3)
    noisy = [0.4 + rng.gauss(0, 1e-4) for _ in range(100)]
    assert is_resting_after(noisy)
    assert not is_resting_after([*noisy, *(0.4 + 1e-4 * k for k in range(16))])  # 10 mm/s
    stopped = [0.3 + 1e-3 * k for k in range(100)]
    assert not is_resting_after([*stopped, *[0.4] * 10])
    assert is_resting_after([*stopped, *[0.4] * 16])
    assert not is_resting_after([0.4] * 20, [0.5 + 0.005 * k for k in range(20)])
    assert not Rest().is_resting


def test_states_right_behind_each_other_say_nothing_of_the_speed():
    motion = ToolMotion(SPEED, LIMITS.max_acceleration_m_s2)
    motion.take(state_at(0.40, 0))
    motion.take(state_at(0.41, 3 * MS))
    assert motion.velocity_m_s == (0.0, 0.0, 0.0)
    motion.take(state_at(0.41, BASE_NS))
    assert 0.0 < motion.velocity_m_s[0] <= SPEED
    motion.take(state_at(0.9, BASE_NS))  # as old as the one before
    assert motion.velocity_m_s[0] <= SPEED


def test_no_row_of_states_places_a_stop_further_than_full_speed_does():
    rng = random.Random(8)
    for _ in range(300):
        motion, x, t_ns = ToolMotion(SPEED, LIMITS.max_acceleration_m_s2), 0.4, 0
        for _ in range(20):
            x += SPEED * 0.01
            t_ns += round(rng.choice([0.1, 3, 10, 17, 300]) * MS * rng.random())
            motion.take(state_at(x, t_ns))
        stop = motion.stopping_place(LIMITS.max_acceleration_m_s2, t_ns)
        assert math.dist(stop, (x, 0.0, 0.1)) <= AHEAD_M + 1e-12


@pytest.mark.parametrize("late_ms", [0, 4, 7, 9.9])
def test_a_hold_is_near_though_every_second_state_is_dated_late(
    late_ms: float, monkeypatch: pytest.MonkeyPatch
):
    rig = GuardRig()
    drive, real_state = Drive(rig), rig.real.state
    num = 0

    def state() -> ArmState:
        nonlocal num
        num += 1
        late_ns = round(late_ms * MS) if num % 2 else 0
        true = real_state()
        return dataclasses.replace(true, t_ns=true.t_ns - 10 * MS + late_ns)

    monkeypatch.setattr(rig.real, "state", state)
    for _ in range(6):
        rig.real.speed_m_s = 0.10  # it lags, and is still under way when it is held
        for k in range(4):
            drive.send(moved(x=0.024 * (k + 1)))
            drive.tick()
        drive.tick(1.3)
        assert rig.guard.phase is Phase.HELD
        rig.real.speed_m_s = SPEED
        drive.arm.reset(START)
        rig.clock.advance(PERIOD_NS // 10)  # the silence ends at another state each time
    assert len(rig.holds) == 6
    for hold in rig.holds:
        assert math.dist(hold.target, hold.place) <= AHEAD_M, hold
