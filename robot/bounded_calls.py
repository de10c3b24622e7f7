"""Calls into code that may hang, made so that the caller does not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class _Call(Generic[Result]):
    def __init__(self, function: Callable[[], Result], on_late: Callable[[Result], None]) -> None:
        self._function, self._on_late = function, on_late
        self._lock = threading.Lock()
        self._is_done = threading.Event()
        self._is_given_up = False
        self._result: list[Result] = []
        self._error: Exception | None = None

    def run(self) -> None:
        """Runs the call in the worker's thread; its error is the caller's, or nobody's if late."""
        try:
            self._result.append(self._function())
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error

    def deliver(self) -> None:
        """Wakes the caller, or hands a late result on."""
        with self._lock:
            self._is_done.set()
            is_late = self._is_given_up
        if is_late and self._result:
            self._on_late(self._result[0])

    def wait(self, timeout_s: float) -> Result:
        """Returns the result, raises the call's error, or gives up with TimeoutError."""
        if not self._is_done.wait(timeout_s):
            with self._lock:
                self._is_given_up = not self._is_done.is_set()
            if self._is_given_up:
                raise TimeoutError(f"no answer within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return self._result[0]


class BoundedCalls:
    """Runs calls one after the other in a thread of its own, and waits for each only so long.

    A call that is given up goes on in its thread; until it ends every other one is refused.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._is_free = threading.Event()
        self._is_free.set()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(
        self,
        function: Callable[[], Result],
        timeout_s: float,
        *,
        on_late: Callable[[Result], None] = lambda _: None,
    ) -> Result:
        """Returns what `function` returns or raises what it raises. One caller at a time.

        Args:
            function: Runs in the worker's thread.
            timeout_s: How long to wait for it.
            on_late: Gets the result of a call that was given up.

        Raises:
            TimeoutError: It did not end in time, or an earlier one has not ended yet.
        """
        if not self._is_free.is_set():
            raise TimeoutError("an earlier call has not ended yet")
        self._is_free.clear()
        call = _Call(function, on_late)
        self._calls.put(call)
        return call.wait(timeout_s)

    def wait_until_free(self, timeout_s: float) -> bool:
        """Waits for a call that was given up to end; returns whether it has."""
        return self._is_free.wait(timeout_s)

    def close(self) -> None:
        """Ends the thread once it is free; may be called twice."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            # Before the caller wakes, or its next call would find this one still there.
            self._is_free.set()
            call.deliver()
