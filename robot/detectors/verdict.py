"""What a detector says of an observation."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A reward, how sure the detector is of it, and what it saw."""

    reward: float
    confidence: float
    """0 a guess .. 1 certain: how far the measurement is from where the reward changes, by how well
    it could be made."""
    reason: str
    """What decided, in a few words."""
    held_m: tuple[float, float, float] | None = None
    """Middle of the carried object, base frame; None where it is not seen at the tool."""
    target_m: tuple[float, float] | None = None
    """Centre of the target on the table; None where it has not been seen in this trial."""

    def __post_init__(self) -> None:
        assert 0.0 <= self.confidence <= 1.0, self.confidence


def sureness(margin_m: float, sigma_m: float) -> float:
    """Returns how surely a measurement is on its side of a threshold, 0 .. 1.

    Args:
        margin_m: From the threshold, of either sign.
        sigma_m: Standard deviation of the measurement.
    """
    return math.erf(abs(margin_m) / (sigma_m * math.sqrt(2.0)))
