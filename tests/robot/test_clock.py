from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.clock import Clock, MonotonicClock, SimulatedClock, Ticker

PERIOD_NS = 100_000_000


def test_both_clocks_are_clocks():
    assert isinstance(MonotonicClock(), Clock)
    assert isinstance(SimulatedClock(), Clock)


def test_monotonic_clock_sleeps_until_the_moment_and_not_for_the_past():
    clock = MonotonicClock()
    start_ns = time.monotonic_ns()
    clock.sleep_until_ns(start_ns + 5_000_000)
    assert time.monotonic_ns() >= start_ns + 5_000_000
    clock.sleep_until_ns(start_ns - 10**12)
    assert clock.now_ns() < start_ns + 10**12


def test_simulated_time_never_runs_back():
    clock = SimulatedClock(start_ns=50)
    clock.sleep_until_ns(20)
    assert clock.now_ns() == 50
    clock.sleep_until_ns(70)
    clock.advance(5)
    assert clock.now_ns() == 75
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


def test_ticks_are_absolute_when_work_takes_part_of_the_period():
    clock = SimulatedClock(start_ns=7)
    ticker = Ticker(clock, PERIOD_NS)
    ticker.start()
    for index in range(50):
        tick = ticker.wait()
        assert (tick.index, tick.scheduled_ns, tick.late_ns) == (index, 7 + index * PERIOD_NS, 0)
        clock.advance(37_000_000)
    assert ticker.num_missed == 0


def test_one_late_tick_does_not_move_the_next():
    clock = SimulatedClock()
    ticker = Ticker(clock, PERIOD_NS)
    ticker.start()
    ticker.wait()
    clock.advance(130_000_000)
    late = ticker.wait()
    assert (late.index, late.late_ns) == (1, 30_000_000)
    assert ticker.wait().scheduled_ns == 2 * PERIOD_NS
    assert ticker.num_missed == 0


def test_missed_ticks_are_skipped_and_counted():
    clock = SimulatedClock()
    ticker = Ticker(clock, PERIOD_NS)
    ticker.start()
    ticker.wait()
    clock.advance(350_000_000)
    tick = ticker.wait()
    assert (tick.index, tick.late_ns) == (3, 50_000_000)
    assert ticker.num_missed == 2
    assert ticker.wait().index == 4
    ticker.start()
    assert ticker.num_missed == 0
    assert ticker.wait().index == 0


@given(
    work_ns=st.lists(st.integers(0, 5 * PERIOD_NS), min_size=1, max_size=40),
    start_ns=st.integers(0, 10**12),
)
def test_every_tick_is_on_the_grid_delivered_once_or_counted(work_ns, start_ns):
    clock = SimulatedClock(start_ns)
    ticker = Ticker(clock, PERIOD_NS)
    ticker.start()
    indices = []
    for work in work_ns:
        tick = ticker.wait()
        assert tick.scheduled_ns == start_ns + tick.index * PERIOD_NS
        assert 0 <= tick.late_ns < PERIOD_NS
        indices.append(tick.index)
        clock.advance(work)
    assert indices == sorted(set(indices))
    assert len(indices) + ticker.num_missed == indices[-1] + 1


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="positive"):
        Ticker(SimulatedClock(), 0)
    with pytest.raises(RuntimeError, match="start"):
        Ticker(SimulatedClock(), PERIOD_NS).wait()
