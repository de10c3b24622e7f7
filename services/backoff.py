"""How long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `low_s` to `high_s`, with jitter, until something worked.

    Args:
        low_s: About the first wait.
        high_s: No wait is longer.
        rng: Draws the jitter, so that actors do not all come back at the same moment.
    """

    def __init__(
        self, *, low_s: float = 0.1, high_s: float = 2.0, rng: random.Random | None = None
    ) -> None:
        self._low_s = low_s
        self._high_s = high_s
        self._rng = rng or random.Random()  # noqa: S311
        self._num_failures = 0

    def failed(self) -> float:
        """Counts a failure; returns for how many seconds to wait."""
        longest = min(self._high_s, self._low_s * 2.0**self._num_failures)
        self._num_failures = min(self._num_failures + 1, 64)
        return longest * (0.5 + 0.5 * self._rng.random())

    def worked(self) -> None:
        """Begins again at the short end."""
        self._num_failures = 0
