"""Asking the pilot for a plan, and not waiting for it longer than the control loop can.

A plan may take longer than the tick it was asked for: a busy machine, a model too large for it. In
real time it is made in a thread of its own, so that the loop commands something else in time and
takes the plan in when it is there. In simulated time a plan takes none.

One thread does everything with a model: loading, warming up, planning. The library behind torch
keeps a pool of workers for each thread that computes, and two pools are more than the cores there
are: measured on two cores, a plan made in another thread than the first one took twice as long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar, cast

import numpy as np

from robot.clock import Clock
from services.pilot import Choice, Pilot

PLANNING_SHARE = 0.9
"""Part of a control period for observing and planning; a plan that is not there then is late."""
_THREAD = "planning"
_CLOSE_S = 1.0
T = TypeVar("T")


class PlanningStuck(RuntimeError):
    """A plan does not end: nothing can be planned any more, and the process has to."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a pilot answered."""

    choice: Choice
    rest: np.ndarray
    """What it means to do after that, float32. [N, A]"""
    began_ns: int
    """When it began to think, monotonic."""
    ended_ns: int
    """When the answer was known, monotonic."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a pilot is asked. Nobody else may use the pilot before the answer is there."""

    pilot: Pilot
    fields: Mapping[str, np.ndarray]
    """What the robot sees. {name: [*shape]}"""
    is_eval: bool
    """Whether the pilot leaves its exploration noise out."""

    def answer(self, clock: Clock) -> Planned:
        """Has the pilot decide; raises what it raises."""
        began_ns = clock.now_ns()
        choice = self.pilot.act(self.fields, is_eval=self.is_eval)
        rest = self.pilot.rest_of_plan()
        return Planned(choice=choice, rest=rest, began_ns=began_ns, ended_ns=clock.now_ns())


class Planning(Protocol):
    """Takes one question at a time: the next one when the answer was fetched."""

    def begin(self, question: Question) -> None:
        """Takes a question. Returns at once, or with the answer known."""
        ...

    def wait(self, until_ns: int | None) -> Planned | None:
        """Returns the answer, once; None if it is not there at `until_ns`.

        Args:
            until_ns: When to give up, monotonic; None to wait as long as it takes.

        Raises:
            Exception: Whatever the pilot raised.
        """
        ...

    def call(self, function: Callable[[], T]) -> T:
        """Returns what `function` returns, called where plans are made; none may be under way."""
        ...

    def close(self) -> None:
        """Waits a moment for what is under way, and lets go of it."""
        ...


class PlanningAtOnce:
    """Answers while it is asked: for simulated time, and for pilots that do not think long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answer: Planned | None = None

    def begin(self, question: Question) -> None:
        """Has the pilot decide."""
        self._answer = question.answer(self._clock)

    def wait(self, until_ns: int | None) -> Planned | None:
        """Returns the answer, however long it took."""
        del until_ns
        answer, self._answer = self._answer, None
        return answer

    def call(self, function: Callable[[], T]) -> T:
        """Calls it."""
        return function()

    def close(self) -> None:
        """Has nothing to let go of."""


class PlanningThread:
    """Answers in a thread of its own, which takes over the urgency of the one that makes this.

    Whatever keeps Python's global lock for long (a pause of the whole process) still keeps the loop
    from commanding; the guard then holds the arm.

    Args:
        clock: The robot's; it must be the machine's monotonic one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._questions: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[object, Exception | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._answer_all, name=_THREAD, daemon=True)
        self._thread.start()

    def begin(self, question: Question) -> None:
        """Hands the question over."""
        self._questions.put(lambda: question.answer(self._clock))

    def wait(self, until_ns: int | None) -> Planned | None:
        """Returns the answer, once; None if it is not there at `until_ns`; see `Planning`."""
        left_s = None if until_ns is None else max(0, until_ns - self._clock.now_ns()) * 1e-9
        try:
            answer, error = self._answers.get(timeout=left_s)
        except Empty:
            return None
        if error is not None:
            raise error
        return cast("Planned", answer)

    def call(self, function: Callable[[], T]) -> T:
        """Returns what `function` returns; a signal may break off the wait, not the function."""
        self._questions.put(function)
        answer, error = self._answers.get()
        if error is not None:
            raise error
        return cast("T", answer)

    def close(self) -> None:
        """Ends the thread after what is under way; one that hangs is left behind: `is_stuck`."""
        self._questions.put(None)
        self._thread.join(_CLOSE_S)

    def _answer_all(self) -> None:
        while (question := self._questions.get()) is not None:
            try:
                self._answers.put((question(), None))
            except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
                self._answers.put((None, error))


def is_stuck() -> bool:
    """Whether a planning thread still runs though it was closed: a process cannot end by itself."""
    return any(thread.name == _THREAD for thread in threading.enumerate())
