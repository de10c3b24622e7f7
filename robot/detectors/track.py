"""Where the tool was when a frame was taken: frames are older than the arm's newest state."""

from __future__ import annotations

from collections import deque

import numpy as np

from robot.interfaces import ArmState

_NUM_STATES = 16


class ToolTrack:
    """The last measured tool positions, looked up by time."""

    def __init__(self) -> None:
        self._states: deque[ArmState] = deque(maxlen=_NUM_STATES)

    def forget(self) -> None:
        """Starts anew."""
        self._states.clear()

    def add(self, state: ArmState) -> None:
        """Takes a newer state; one that is not newer is left out."""
        if not self._states or state.t_ns > self._states[-1].t_ns:
            self._states.append(state)

    def at(self, t_ns: int) -> np.ndarray:
        """Returns the tool position at a time, between two states on a straight line. [3]

        Before the first state and after the last it is taken to have stood still.
        """
        if not self._states:
            raise ValueError("no state of the arm has been added yet")
        times = np.array([state.t_ns - self._states[0].t_ns for state in self._states], np.float64)
        places = np.array([state.position_m for state in self._states])
        asked = float(t_ns - self._states[0].t_ns)
        return np.array([np.interp(asked, times, places[:, axis]) for axis in range(3)])
