from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot.realsense_config import CaptureCounts
from robot.realsense_intake import AGREEMENT_NS, WRAP_NS, FrameIntake

MS = 1_000_000
PERIOD_NS = 33 * MS
DEVICE_NS = 5_000_000_000_000
"""How far the camera's clock is ahead of ours."""


def make_intake(num_warm_up: int = 0) -> FrameIntake:
    return FrameIntake(num_warm_up=num_warm_up, late_ns=100 * MS)


def taken_at(number: int) -> int:
    return number * PERIOD_NS


def take(intake: FrameIntake, number: int, *, delay_ns: int = 20 * MS, **kwargs: bool):
    taken_ns = taken_at(number)
    return intake.take(number, taken_ns + DEVICE_NS, taken_ns + delay_ns, **kwargs)


def test_frames_are_dated_by_when_they_were_taken_but_for_the_least_delay():
    intake = make_intake()
    delays_ns = [20 * MS, 25 * MS, 70 * MS, 20 * MS, 300 * MS, 21 * MS]
    stamps = [take(intake, k, delay_ns=delay) for k, delay in enumerate(delays_ns, 1)]
    for number, stamp in enumerate(stamps, 1):
        assert stamp is not None
        assert stamp.frame_number == number
        assert stamp.t_ns == pytest.approx(taken_at(number) + 20 * MS, abs=0.2 * MS)
    assert intake.counts == CaptureCounts(num_shown=6, num_late=1)


def test_a_lag_that_stays_is_seen_for_minutes():
    intake = make_intake()
    for number in range(1, 31):
        take(intake, number)
    for number in range(31, 31 + 5 * 60 * 30):
        stamp = take(intake, number, delay_ns=520 * MS)
        assert stamp is not None
        assert taken_at(number) + 520 * MS - stamp.t_ns > 430 * MS


@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_a_clock_that_drifts_is_followed_for_an_hour(drift):
    intake = make_intake()
    rng = np.random.default_rng(0)
    for number in range(1, 3600 * 30, 10):
        taken_ns = taken_at(number)
        arrived_ns = taken_ns + round(20 * MS + rng.exponential(5 * MS))
        stamp = intake.take(number, DEVICE_NS + round(taken_ns * (1 + drift)), arrived_ns)
        assert stamp is not None
        assert abs(stamp.t_ns - (taken_ns + 20 * MS)) < 15 * MS
    assert intake.counts.num_back == intake.counts.num_ahead == 0


def test_a_counter_that_wraps_goes_on():
    intake = make_intake()
    stamps = []
    for number in range(1, 11):
        device_ns = (WRAP_NS - 5 * PERIOD_NS + number * PERIOD_NS) % WRAP_NS
        stamps.append(intake.take(number, device_ns, taken_at(number) + 20 * MS))
    assert [s.t_ns for s in stamps if s is not None] == [
        taken_at(number) + 20 * MS for number in range(1, 11)
    ]


@pytest.mark.parametrize(
    ("number", "device_ns", "count"),
    [
        (10, taken_at(10), "num_repeated"),
        (10, taken_at(11), "num_repeated"),
        (9, taken_at(11), "num_back"),
        (1, taken_at(11), "num_back"),
        (11, taken_at(9), "num_back"),
        (11, taken_at(11) - 3_600_000_000_000, "num_ahead"),
        (11, taken_at(11) + 2 * AGREEMENT_NS, "num_ahead"),
    ],
)
def test_what_is_out_of_order_is_refused_counted_and_forgotten(number, device_ns, count):
    intake = make_intake()
    for k in range(1, 11):
        take(intake, k)
    assert intake.take(number, device_ns + DEVICE_NS, taken_at(11) + 20 * MS) is None
    assert intake.counts == dataclasses.replace(CaptureCounts(num_shown=10), **{count: 1})
    stamp = take(intake, 12)
    assert stamp is not None
    assert stamp.frame_number == 12
    assert stamp.t_ns == pytest.approx(taken_at(12) + 20 * MS, abs=0.1 * MS)


def test_a_frozen_frame_is_refused_and_no_gap():
    intake = make_intake()
    take(intake, 1)
    assert take(intake, 2, is_frozen=True) is None
    take(intake, 3)
    take(intake, 7)
    assert intake.counts == CaptureCounts(num_shown=3, num_frozen=1, num_missed=3)


def test_dates_never_go_back_nor_beyond_the_arrival_whatever_the_delays():
    rng = np.random.default_rng(1)
    intake = make_intake()
    arrived_ns, last = 0, None
    for number in range(1, 3000):
        if rng.random() < 0.01:
            intake.restart()
        arrived_ns = max(arrived_ns, taken_at(number) + round(rng.exponential(80 * MS)))
        stamp = intake.take(number, taken_at(number) + DEVICE_NS, arrived_ns)
        if stamp is None:
            continue
        assert stamp.t_ns <= arrived_ns
        if last is not None:
            assert stamp.t_ns >= last.t_ns
            assert stamp.frame_number > last.frame_number
        last = stamp


def test_after_a_restart_numbers_grow_on_and_a_clock_that_was_reset_is_learnt_anew():
    intake = make_intake()
    for number in range(1, 11):
        take(intake, number)
    intake.restart()
    now_ns = taken_at(100)
    stamp = intake.take(1, 7 * MS, now_ns + 7 * MS)
    assert stamp is not None
    assert (stamp.frame_number, stamp.t_ns) == (11, now_ns + 7 * MS)
    assert intake.counts.num_restarts == 1
    assert intake.counts.num_missed == 0


@pytest.mark.parametrize("num_warm_up", [0, 5])
def test_a_restart_does_not_make_a_frame_look_fresh_that_is_not(num_warm_up):
    intake = make_intake(num_warm_up)
    for number in range(1, 31):
        take(intake, number)
    intake.restart()
    stamps = [take(intake, number, delay_ns=620 * MS) for number in range(60, 80)]
    assert stamps[:num_warm_up] == [None] * num_warm_up
    for number, stamp in zip(range(60 + num_warm_up, 80), stamps[num_warm_up:], strict=True):
        assert stamp is not None
        assert taken_at(number) + 620 * MS - stamp.t_ns > 590 * MS


def test_warm_up_frames_are_not_shown_and_must_agree():
    intake = make_intake(num_warm_up=3)
    # The first two waited in a queue while the camera started.
    delays_ns = [900 * MS, 870 * MS, 20 * MS, 20 * MS, 20 * MS, 20 * MS]
    stamps = [take(intake, k, delay_ns=delay) for k, delay in enumerate(delays_ns, 1)]
    assert stamps[:5] == [None] * 5
    assert stamps[5] is not None
    assert stamps[5].t_ns == taken_at(6) + 20 * MS
    assert intake.counts == CaptureCounts(num_warm_up=5, num_shown=1)


def test_dated_on_arrival_is_dated_on_arrival():
    intake = FrameIntake(num_warm_up=0, late_ns=MS, is_dated_on_arrival=True)
    for number, arrived_ns in enumerate((0, 5, 700_000 * MS, 700_001 * MS), 1):
        stamp = intake.take(number, taken_at(number), arrived_ns)
        assert stamp is not None
        assert stamp.t_ns == arrived_ns
    assert intake.take(4, taken_at(4), 700_002 * MS) is None
