"""A trial in one line: what its steps add up to, for logs and for viewers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import numpy as np


class TrialSummary:
    """Adds up the steps of one trial, from the columns of `protos.trial.step_fields`."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.num_missed = 0
        """Steps whose plan, or whose command, was not there in time."""
        self.num_fallbacks = 0
        """Steps that got the rest of an older plan, or a hold."""
        self.num_repeats = 0
        """Steps that saw no newer frame than the step before them."""
        self.total_reward = 0.0
        self.weights_version = 0
        """Newest version that planned a step; 0 for none."""
        self.longest_plan_ms = 0.0
        """Of the plans that ended in the trial, also the late ones."""
        self._observed_ns: int | None = None
        self._planned_ns: list[int] = []
        self._commanded_ns: list[int] = []

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Takes the next step. {name: [*shape]}"""
        scheduled_ns = int(columns["t_scheduled_ns"])
        self.num_steps += 1
        self.num_missed += bool(columns["deadline_missed"])
        self.num_fallbacks += int(columns["fallback"]) != 0
        self.num_repeats += int(columns["t_observed_ns"]) == self._observed_ns
        self._observed_ns = int(columns["t_observed_ns"])
        self.total_reward += float(columns["reward"])
        self.weights_version = max(self.weights_version, int(columns["weights_version"]))
        self._planned_ns.append(int(columns["t_planned_ns"]) - scheduled_ns)
        self._commanded_ns.append(int(columns["t_commanded_ns"]) - scheduled_ns)

    @property
    def plan_ms(self) -> float:
        """Median time from the deadline to the decision, milliseconds, which is no more than a loop
        waits for a plan; NaN without a step."""
        return statistics.median(self._planned_ns) / 1e6 if self._planned_ns else math.nan

    @property
    def late_p99_ms(self) -> float:
        """99th percentile of the time from the deadline to the command; NaN without a step."""
        return (
            float(np.percentile(self._commanded_ns, 99)) / 1e6 if self._commanded_ns else math.nan
        )

    def __str__(self) -> str:
        """Returns all of it as `key=value`."""
        return (
            f"steps={self.num_steps} reward={self.total_reward:.3g} missed={self.num_missed} "
            f"fallbacks={self.num_fallbacks} repeats={self.num_repeats} plan_ms={self.plan_ms:.1f} "
            f"longest_plan_ms={self.longest_plan_ms:.1f} "
            f"late_p99_ms={self.late_p99_ms:.1f} weights={self.weights_version}"
        )
