"""The outcome of one check: go, no-go with what to do about it, not asked, or left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from robot.interfaces import RobotFault
from services.client import LearnerUnavailable
from services.config import ConfigError
from services.process import CannotStart

Verdict = Literal["go", "no-go", "not asked", "left alone"]
Check = Callable[[], "Iterator[Finding]"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of what was looked at."""

    check: str
    verdict: Verdict
    detail: str
    """What was found, with numbers."""
    todo: str = ""
    """What a person does about it; said of every no-go, empty elsewhere."""

    def __post_init__(self) -> None:
        if (self.verdict == "no-go") != bool(self.todo):
            raise ValueError(f"{self.check}: a no-go, and only that, says what to do")


def go(check: str, detail: str) -> Finding:
    """Returns a green row."""
    return Finding(check=check, verdict="go", detail=detail)


def no_go(check: str, detail: str, todo: str) -> Finding:
    """Returns a red row."""
    return Finding(check=check, verdict="no-go", detail=detail, todo=todo)


def not_asked(check: str, why: str) -> Finding:
    """Returns a row that says why nothing was looked at; it counts neither way."""
    return Finding(check=check, verdict="not asked", detail=why)


def left_alone(check: str, whose: str) -> Finding:
    """Returns a row that says who works with what would have been looked at; no go for it."""
    return Finding(check=check, verdict="left alone", detail=whose)


def judged(check: str, detail: str, todo: str, *, is_good: bool) -> Finding:
    """Returns a green row, or a red one with what to do."""
    return go(check, detail) if is_good else no_go(check, detail, todo)


def attempt(check: str, work: Check, todo: str) -> Iterator[Finding]:
    """Yields what `work` finds; a check that cannot be made is a no-go, with the reason.

    Args:
        check: The row's name if it cannot be made.
        work: Yields the findings.
        todo: What to do if it cannot be made.
    """
    expected = (ImportError, OSError, ConfigError, CannotStart, LearnerUnavailable, RobotFault)
    try:
        yield from work()
    except expected as error:
        yield no_go(check, str(error), todo)
