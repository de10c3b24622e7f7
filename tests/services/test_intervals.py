"""Intervals, against published values and by their meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.intervals import Rate, bootstrap_mean, running_rate, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (4, 18, 0.0900, 0.4521), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_gives_the_known_intervals(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("trials", range(1, 60))
def test_wilson_holds_the_rate_itself_and_stays_within_bounds(trials: int) -> None:
    for successes in range(trials + 1):
        low, high = wilson(successes, trials)
        assert 0.0 <= low <= successes / trials <= high <= 1.0


def test_wilson_covers_the_true_rate_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).binomial(18, 0.4, size=4000)
    covered = [low <= 0.4 <= high for low, high in (wilson(int(k), 18) for k in draws)]
    assert 0.92 < np.mean(covered) < 0.98


def test_without_trials_nothing_is_known() -> None:
    rate = Rate(successes=0, trials=0)
    assert math.isnan(rate.value)
    assert rate.interval == (0.0, 1.0)
    assert str(rate) == "no trials"


def test_a_rate_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="3 successes of 2"):
        Rate(successes=3, trials=2)


def test_a_rate_reads_as_a_sentence() -> None:
    assert str(Rate(successes=4, trials=18)) == "22% (4 of 18, 95 % interval 9% to 45%)"


def test_the_bootstrap_of_equal_values_is_that_value_and_of_one_unknown() -> None:
    assert bootstrap_mean([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(v) for v in bootstrap_mean([0.5]))


def test_the_bootstrap_surrounds_the_mean_and_repeats_itself() -> None:
    values = [0.1, 0.4, 0.5, 0.9, 0.7]
    low, high = bootstrap_mean(values)
    assert low < np.mean(values) < high
    assert bootstrap_mean(values) == (low, high)
    assert low >= min(values)
    assert high <= max(values)


def test_the_running_rate_forgets_what_left_its_window() -> None:
    rates = running_rate([True, False, False, True], 2)
    assert [(r.successes, r.trials) for r in rates] == [(1, 1), (1, 2), (0, 2), (1, 2)]
