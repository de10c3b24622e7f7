"""How well a loop kept its deadlines, counted from the steps it recorded and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from protos.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """What became of the deadlines of many trials."""

    num_due: int
    """Deadlines from the first step of each trial to its last."""
    num_missed: int
    """Those without a command within one period after them: the step came later, or there is none
    because the loop was still busy, or was not woken."""
    num_plans_late: int
    """Steps whose plan was not there in time; something else was commanded then."""
    num_fallbacks: int
    """Steps that were not planned: the rest of an older plan, or a hold."""
    late_ms: np.ndarray
    """From the deadline to the command. [steps]"""


def count_deadlines(trials: Iterable[Trial]) -> Deadlines:
    """Counts the deadlines of `trials`; those without a step count nothing."""
    num_due = num_kept = num_plans_late = num_fallbacks = 0
    late_ms = [np.zeros(0)]
    for trial in trials:
        if trial.num_steps == 0:
            continue
        period_ns = round(1e9 / trial.spec.control_hz)
        scheduled_ns = trial.steps["t_scheduled_ns"]
        late_ns = trial.steps["t_commanded_ns"] - scheduled_ns
        num_due += int(scheduled_ns[-1] - scheduled_ns[0]) // period_ns + 1
        num_kept += int((late_ns <= period_ns).sum())
        num_plans_late += int((trial.steps["deadline_missed"] & (late_ns <= period_ns)).sum())
        num_fallbacks += int((trial.steps["fallback"] != 0).sum())
        late_ms.append(late_ns / 1e6)
    return Deadlines(
        num_due=num_due,
        num_missed=num_due - num_kept,
        num_plans_late=num_plans_late,
        num_fallbacks=num_fallbacks,
        late_ms=np.concatenate(late_ms),
    )
