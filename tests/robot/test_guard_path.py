"""The path of targets: inside the box, never too fast or too abrupt, and it arrives."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.guard_path import PathAllowance, PathLimiter

LOW, HIGH = (0.25, -0.15, 0.015), (0.55, 0.15, 0.315)
SPEED, ACCELERATION = 0.25, 2.0


def make_path(period_s=0.1, acceleration=ACCELERATION, place=(0.4, 0.0, 0.12)) -> PathLimiter:
    path = PathLimiter(max_speed_m_s=SPEED, max_acceleration_m_s2=acceleration, period_s=period_s)
    path.start(place, LOW, HIGH)
    return path


def place_at(fractions) -> tuple[float, float, float]:
    x, y, z = (low + f * (high - low) for low, f, high in zip(LOW, fractions, HIGH, strict=True))
    return x, y, z


goals = st.lists(
    st.tuples(*[st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))] * 3), max_size=60
)


@settings(deadline=None)
@given(
    goals=goals,
    period_s=st.sampled_from([0.02, 0.05, 0.1, 0.2]),
    acceleration=st.sampled_from([0.3, 2.0, 50.0]),
)
def test_no_row_of_goals_makes_it_break_a_limit(goals, period_s, acceleration):
    check_limits([place_at(goal) for goal in goals], period_s, acceleration)


def test_goals_that_jump_from_corner_to_corner_do_not_carry_it_over_the_border():
    rng = random.Random(5)
    goals = []
    while len(goals) < 5000:
        goals += [place_at([rng.choice([0, 1]) for _ in range(3)])] * rng.randint(1, 25)
    check_limits(goals, 0.1, 0.3)
    check_limits(goals, 0.05, 2.0)


def check_limits(goals, period_s, acceleration):
    path = make_path(period_s, acceleration)
    places = [path.place] * 2
    for k, goal in enumerate(goals):
        places.append(path.toward(goal, round(k * period_s * 1e9)))
    at = np.array(places)
    steps = np.diff(at, axis=0)
    changes = np.diff(steps, axis=0)
    assert (at >= LOW).all()
    assert (at <= HIGH).all()
    assert np.linalg.norm(steps, axis=1).max(initial=0) <= SPEED * period_s + 1e-8
    assert np.linalg.norm(changes, axis=1).max(initial=0) <= acceleration * period_s**2 + 1e-8


@settings(deadline=None)
@given(
    before=goals,
    goal=st.tuples(*[st.floats(0, 1)] * 3),
    period_s=st.sampled_from([0.05, 0.1]),
)
def test_it_comes_to_rest_exactly_at_a_goal_that_stays(before, goal, period_s):
    path = make_path(period_s)
    num = 0
    for wanted in before:
        path.toward(place_at(wanted), round(num * period_s * 1e9))
        num += 1
    end = place_at(goal)
    # The whole way at half the speed, and as long again as braking from full speed takes.
    longest = math.dist(LOW, HIGH) / (0.5 * SPEED * period_s) + 4 * SPEED / ACCELERATION / period_s
    for _ in range(math.ceil(longest) + 8):
        path.toward(end, round(num * period_s * 1e9))
        num += 1
    assert path.place == end


@pytest.mark.parametrize("gap_s", [0.0, 0.001, 0.03, 0.05])
def test_targets_asked_for_too_often_are_no_faster(gap_s: float):
    path = make_path()
    for k in range(40):
        path.toward((0.55, 0.0, 0.12), round(k * gap_s * 1e9))
    assert path.place[0] - 0.4 <= SPEED * (39 * gap_s + 1.5 * 0.1) + 1e-9


def test_an_allowance_grows_with_time_up_to_its_most_and_ignores_time_that_runs_back():
    allowance = PathAllowance(0.5, 0.1)
    assert allowance.at(10**9) == 0.1
    allowance.spend(0.1)
    assert allowance.at(10**9) == 0.0
    assert allowance.at(9 * 10**8) == 0.0
    assert allowance.at(11 * 10**8) == pytest.approx(0.05)
    assert allowance.at(10**10) == 0.1
    allowance.spend(5.0)
    assert allowance.at(10**10) == 0.0
