"""Targets are let through that are within the limits, fresh, and of the loop that drives."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robot.guard_messages import Command, Phase, Reset
from robot.interfaces import ToolTarget
from tests.robot import guard_rig
from tests.robot.guard_rig import CYCLE_NS, PERIOD_NS, START, Drive, GuardRig, moved

rig, drive = guard_rig.rig, guard_rig.drive


def test_a_target_within_limits_is_sent_once_and_reached(drive: Drive):
    drive.send(moved(x=0.01))
    assert [e.target for e in drive.rig.commands()] == [moved(x=0.01)]
    assert drive.rig.guard.phase is Phase.MOVING
    drive.tick(1.5)
    assert math.dist(drive.rig.real.place, moved(x=0.01)) < 1e-4
    assert len(drive.rig.commands()) == 1


@pytest.mark.parametrize(
    ("place", "opening", "code"),
    [
        ((math.nan, 0.0, 0.12), 0.6, "target_not_finite"),
        ((0.40, math.inf, 0.12), 0.6, "target_not_finite"),
        ((0.40, 0.0, -math.inf), 0.6, "target_not_finite"),
        ((0.40, 0.0, 0.12), math.nan, "target_not_finite"),
        ((1e38, 0.0, 0.12), 0.6, "target_outside_box"),
        ((0.40, 0.0, 0.014), 0.6, "target_outside_box"),
        ((0.2499, 0.0, 0.12), 0.6, "target_outside_box"),
        ((0.40, 0.0, 0.12), 1.01, "target_outside_box"),
        ((0.40, 0.0, 0.12), -0.01, "target_outside_box"),
        ((0.40, 0.0, 0.1701), 0.6, "step_too_long"),
        ((0.40, 0.051, 0.12), 0.6, "step_too_long"),
    ],
)
def test_a_target_that_breaks_a_limit_is_never_sent_and_latches(drive, place, opening, code):
    drive.send(moved(x=0.005))
    drive.rig.record.clear()
    drive.send(place, opening)
    assert [e.kind for e in drive.rig.record] == ["stop"]
    assert drive.code() == code
    assert drive.rig.guard.phase is Phase.LATCHED
    stored = drive.rig.faults.stored
    assert (stored.code, stored.doing) == (code, "moving")
    drive.tick(30)
    assert [e.kind for e in drive.rig.record] == ["stop"]


def test_rounding_at_the_border_is_cut_off_and_no_fault(drive: Drive):
    place = list(START.position_m)
    while place[1] < 0.15:
        place[1] = min(place[1] + 0.02, 0.15 + 5e-7)
        drive.send(tuple(place), 1.0 + 5e-7)
        drive.tick()
    drive.send(tuple(place), 1.0 + 5e-7)
    drive.tick()
    assert drive.code() is None
    assert max(e.target[1] for e in drive.rig.commands()) == 0.15


def test_targets_that_come_too_fast_latch_before_the_arm_does_anything_fast(drive: Drive):
    for k in range(200):
        y = 0.05 * (1 if k % 2 else -1) / 2
        drive.send(moved(y=y))
        if drive.code():
            break
        drive.rig.clock.advance(CYCLE_NS)
    assert drive.code() == "too_fast"
    times = [e.t_ns for e in drive.rig.commands()]
    assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= PERIOD_NS // 2


def test_old_and_repeated_targets_are_ignored_and_counted(drive: Drive):
    drive.send(moved(x=0.01))
    drive.send(moved(x=0.02), seq=1)
    drive.send(moved(x=0.02), seq=0)
    drive.send((math.nan, 0, 0), seq=1)
    assert drive.rig.guard.report().num_ignored == 3
    assert drive.rig.guard.report().seq == 1
    assert drive.code() is None
    drive.tick(1)
    assert [e.target for e in drive.rig.commands()] == [moved(x=0.01)]


@pytest.mark.parametrize("age_ns", [2 * PERIOD_NS + 1, 10**18, -20_000_000])
def test_a_target_sent_long_ago_or_not_yet_is_no_sign_of_life(drive: Drive, age_ns: int):
    for _ in range(8):
        drive.send(moved(x=0.01), age_ns=age_ns)
        drive.tick()
    assert drive.rig.commands() == []
    assert drive.rig.guard.phase is Phase.READY
    assert drive.rig.guard.report().num_ignored == 8


def test_targets_that_piled_up_while_the_guard_stood_still_do_not_latch(drive: Drive):
    drive.send(moved(x=0.0))
    ages = [0.30, 0.25, 0.15, 0.05]
    drive.rig.clock.advance(PERIOD_NS)
    for k, age in enumerate(ages):
        drive.send(moved(x=0.02 * (k + 1)), age_ns=round(age * 1e9))
    assert drive.code() is None
    drive.tick(0.5)
    drive.send(moved(x=0.08))
    drive.tick(1.9)
    assert drive.rig.commands()[0].target[0] <= START.position_m[0] + 0.025
    assert drive.code() is None


def test_targets_count_only_after_a_reset_of_the_loop_that_drives(rig: GuardRig):
    rig.guard.connect()
    target = ToolTarget(position_m=START.position_m, gripper_opening=0.6)
    rig.take(Command(seq=1, t_ns=rig.clock.now_ns(), target=target))
    rig.take(Reset(number=1, pose=START))
    arm = rig.make_arm()
    arm.connect()
    arm.command(target)
    assert rig.guard.report().num_ignored == 3
    rig.take(Reset(number=1, pose=dataclasses.replace(START, position_m=moved(y=0.1))))
    arm.command(target)
    assert rig.guard.report().num_ignored == 4
    assert rig.guard.phase is Phase.RESETTING
