"""Threads whose failure is the failure of their process, never silence."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Worker:
    """One thread that runs until asked to stop; an error in it is kept for whoever looks.

    Args:
        name: Of the thread.
        run: The work. It looks at `stopping` and returns soon after it is set.
    """

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.stopping = threading.Event()
        self._run = run
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Waits for the end of the thread; False if it did not come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def raise_if_failed(self) -> None:
        """Raises what ended the thread, if it was an error."""
        if self._error is not None:
            raise RuntimeError(f"thread {self._thread.name} failed") from self._error

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - raised again by raise_if_failed
            self._error = error
