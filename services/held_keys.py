"""Whether a key is pressed anew or still held: a terminal tells of presses, not of releases."""

from __future__ import annotations

from services.terminal import KeyPress

_REPEAT_NS = 120_000_000
"""Repeats of a held key come sooner than this after each other; a hand is slower."""
_FIRST_REPEAT_NS = 700_000_000
"""The first repeat comes so late at most: terminals wait for a half to two thirds of a second."""


class HeldKeys:
    """Tells the presses of keys from the repeats of held ones.

    A second tap within the time of the first repeat cannot be told from it and counts as one; a
    third does not. Repeats that a slow line delays count as presses.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def is_repeat(self, press: KeyPress) -> bool:
        """Takes the next press of a key; returns whether the key was held since the one before."""
        last_ns, num_repeats = self._last.get(press.key, (press.t_ns - _FIRST_REPEAT_NS, 0))
        gap_ns = press.t_ns - last_ns
        is_repeat = gap_ns < (_FIRST_REPEAT_NS if num_repeats == 0 else _REPEAT_NS)
        self._last[press.key] = (press.t_ns, num_repeats + 1 if is_repeat else 0)
        return is_repeat
