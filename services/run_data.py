"""Numbers of a run that its pictures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Times of planned control steps. [N] each, milliseconds."""

    plan_ms: np.ndarray
    """From the newest frame to the finished plan."""
    late_ms: np.ndarray
    """From the scheduled tick to the moment the arm got its target."""
    period_ms: float


@dataclass(frozen=True, kw_only=True)
class BatchMix:
    """What training batches were made of. [N] each."""

    num_updates: np.ndarray
    online_fraction: np.ndarray
