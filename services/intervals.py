"""Intervals for success rates: Wilson's for one run's trials, a bootstrap for means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Successes among trials, with Wilson's 95 % interval."""

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} successes of {self.trials} trials")

    @property
    def value(self) -> float:
        """Fraction of successes; NaN without trials."""
        return self.successes / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %; (0, 1) without trials."""
        return wilson(self.successes, self.trials)

    def __str__(self) -> str:
        low, high = self.interval
        if not self.trials:
            return "no trials"
        return (
            f"{self.value:.0%} ({self.successes} of {self.trials}, "
            f"95 % interval {low:.0%} to {high:.0%})"
        )


def wilson(successes: int, trials: int, *, z: float = Z_95) -> tuple[float, float]:
    """Returns Wilson's score interval of a binomial proportion.

    Args:
        successes: Number of successes.
        trials: Number of trials; the interval is (0, 1) without any.
        z: Normal quantile; the default gives 95 %.
    """
    if trials == 0:
        return 0.0, 1.0
    p, z2 = successes / trials, z * z
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    # Rounding must not put p outside: it did for no success and for no failure.
    return min(max(0.0, centre - half), p), max(min(1.0, centre + half), p)


def bootstrap_mean(
    values: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Returns the percentile bootstrap 95 % interval of the mean of `values`.

    With fewer than two values there is nothing to resample: the interval is (NaN, NaN).
    """
    if len(values) < 2:
        return math.nan, math.nan
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), size=(num_resamples, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def running_rate(successes: Sequence[bool], window: int) -> list[Rate]:
    """Returns, after each trial, the success rate of the last `window` trials."""
    return [
        Rate(successes=sum(successes[max(0, i - window) : i]), trials=min(i, window))
        for i in range(1, len(successes) + 1)
    ]
