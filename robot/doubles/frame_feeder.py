"""A thread that takes pictures from somewhere and feeds them to a device at a steady rate."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from robot.clock import MonotonicClock, Ticker


class FrameFeeder:
    """Feeds from its construction until it is closed; a context manager that closes it.

    Args:
        produce: Makes the next picture in the feeder's thread, or None for none this time.
        feed: Gets it.
        fps: Pictures a second; one that takes longer than its time makes the next ones fall out.
    """

    def __init__(
        self,
        produce: Callable[[], np.ndarray | None],
        feed: Callable[[np.ndarray], None],
        fps: float,
    ) -> None:
        self._produce = produce
        self._feed = feed
        self._ticker = Ticker(MonotonicClock(), round(1e9 / fps))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frame-feeder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; may be called twice."""
        self._closing.set()
        self._thread.join()

    def __enter__(self) -> FrameFeeder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        self._ticker.start()
        while not self._closing.is_set():
            image = self._produce()
            if image is not None:
                self._feed(image)
            self._ticker.wait()
