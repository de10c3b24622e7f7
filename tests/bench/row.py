"""One figure of the table, and the line it is printed as."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of the table."""

    figure: str
    value: float
    """A count if it is an int."""
    unit: str
    target: str = "-"

    def __str__(self) -> str:
        """Returns the line of the table."""
        value = f"{self.value:10d}" if isinstance(self.value, int) else f"{self.value:10.2f}"
        return f"{self.figure:<78} {value} {self.unit:<4} {self.target}"


def percentile_rows(
    figure: str, values_ms: Sequence[float] | np.ndarray, targets: Mapping[float, str]
) -> list[Row]:
    """Returns a row for each percentile that `targets` names. [ms]"""
    return [
        Row(
            figure=f"{figure}, p{percent:g}",
            value=float(np.percentile(values_ms, percent)),
            unit="ms",
            target=target,
        )
        for percent, target in targets.items()
    ]


def ratio_row(
    figure: str, times_ms: Sequence[float], baseline_ms: Sequence[float], target: str = "-"
) -> Row:
    """Returns how many times as long as the baseline something takes, by their medians."""
    ratio = statistics.median(times_ms) / statistics.median(baseline_ms)
    return Row(figure=figure, value=ratio, unit="x", target=target)
