"""What the arm's double wrote down around a fault, and the times that follow from it."""

from __future__ import annotations

import json
from dataclasses import dataclass

AT_REST_M_S = 1e-3
"""A set point slower than this is at rest."""
_SETTLED_NS = 500_000_000


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How the arm was commanded at one moment, every 10 ms."""

    t_ns: int
    speed_m_s: float
    """Of the controller's set point."""
    state: int
    """Of the controller; 4 and more is stopped."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A part of the double's record, in order."""

    samples: tuple[Sample, ...]
    targets_ns: tuple[int, ...]
    """When each target came that the controller took."""

    @classmethod
    def parse(cls, line: str) -> Record:
        """Reads the answer to the double's `record`."""
        raw = json.loads(line)
        return cls(
            samples=tuple(Sample(**sample) for sample in raw["samples"]),
            targets_ns=tuple(m["t_ns"] for m in raw["motions"] if m["is_taken"]),
        )

    def after(self, t_ns: int) -> Record:
        """Returns what came later than `t_ns`."""
        return Record(
            samples=tuple(s for s in self.samples if s.t_ns > t_ns),
            targets_ns=tuple(t for t in self.targets_ns if t > t_ns),
        )

    def speed_at(self, t_ns: int) -> float:
        """Returns the set point's speed in the last sample that is not after `t_ns`, m/s."""
        return next((s.speed_m_s for s in reversed(self.samples) if s.t_ns <= t_ns), 0.0)

    def told_until_ns(self, struck_ns: int) -> int:
        """Returns until when the arm was told to move: its last target, unless it was stopped.

        A stop that comes before a target that is still taken counts for nothing.
        """
        later = self.after(struck_ns)
        return max((t for t in later.targets_ns), default=struck_ns)

    def is_settled(self, struck_ns: int) -> bool:
        """Whether the set point has been at rest for half a second by the end of the record."""
        rests_ns = self.rests_from_ns(struck_ns)
        return rests_ns is not None and self.samples[-1].t_ns - rests_ns >= _SETTLED_NS

    def rests_from_ns(self, struck_ns: int) -> int | None:
        """Returns from when on the set point stands still for good; None if it never does."""
        moving = struck_ns
        for sample in self.after(struck_ns).samples:
            if sample.speed_m_s > AT_REST_M_S:
                moving = sample.t_ns
        return next((s.t_ns for s in self.samples if s.t_ns > moving), None)
