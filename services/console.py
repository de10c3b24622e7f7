"""What commands show: the only module that writes to standard output and standard error.

On a terminal there are live tables and bars; elsewhere plain lines, one event each. Text that came
from a trial, a file or the network goes through `safe`, so that it can neither move the cursor nor
be taken for markup.
"""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 10.0
"""How often a bar becomes a line where there is no terminal."""
_MAX_TEXT = 500
_PLAIN_WIDTH = 200


class Bar(Protocol):
    """Shows how far a piece of work has come."""

    def update(self, done: float, note: str = "") -> None:
        """Sets how much is done, with a few words beside it."""
        ...


def stdout() -> Console:
    """Returns the console for results."""
    return Console(highlight=False, width=None if is_terminal() else _PLAIN_WIDTH)


def is_terminal() -> bool:
    """Whether a person is looking at standard output."""
    return sys.stdout.isatty()


def safe(text: object, limit: int = _MAX_TEXT) -> str:
    """Returns `text` with everything that could steer a terminal shown as its code."""
    shown = "".join(
        f"\\x{ord(c):02x}" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else c
        for c in str(text)[:limit]
    )
    return shown if len(str(text)) <= limit else shown + "..."


def safe_lines(text: object) -> str:
    """Returns `text` line by line as `safe` does; for what our own code wrote in several lines."""
    return "\n".join(safe(line) for line in str(text).splitlines())


def say(text: str) -> None:
    """Prints one line; `text` may hold line breaks of ours, data in it must be `safe`."""
    stdout().print(Text(text), soft_wrap=True)


def complain(text: str) -> None:
    """Prints one line on standard error."""
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)


def emit_json(value: Any) -> None:
    """Prints one JSON value on one line, for scripts."""
    sys.stdout.write(json.dumps(value, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> Table:
    """Makes a table; columns whose name starts with `>` are aligned to the right."""
    made = Table(
        title=Text(title) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    for row in rows:
        made.add_row(*(Text(safe(cell)) for cell in row))
    return made


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Prints a table."""
    stdout().print(table(columns, rows, title))


def show_fields(fields: Mapping[str, object]) -> None:
    """Prints names and values below each other."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        say(f"{name:<{width}}  {safe(value)}")


@contextmanager
def bar(
    label: str,
    total: float,
    *,
    is_quiet: bool = False,
    clock_s: Callable[[], float] = time.monotonic,
) -> Iterator[Bar]:
    """Shows a bar while the block runs, or a line every ten seconds without a terminal.

    Args:
        label: What is being done.
        total: How much there is to do, in the unit of `Bar.update`.
        is_quiet: Show nothing: the output is for a script.
        clock_s: Monotonic seconds, for the lines.
    """
    if is_quiet:
        yield _NoBar()
        return
    if not is_terminal():
        yield _LineBar(label, total, clock_s)
        return
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=stdout(),
    )
    with progress:
        yield _RichBar(progress, progress.add_task(safe(label), total=total, note=""))


class _NoBar:
    def update(self, done: float, note: str = "") -> None:
        """Shows nothing."""


class _RichBar:
    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, done: float, note: str = "") -> None:
        self._progress.update(self._task, completed=done, note=safe(note))


class _LineBar:
    def __init__(self, label: str, total: float, clock_s: Callable[[], float]) -> None:
        self._label, self._total, self._clock_s = label, total, clock_s
        self._began_s = clock_s()
        self._said_s: float | None = None
        self._is_full = False

    def update(self, done: float, note: str = "") -> None:
        now_s = self._clock_s()
        is_full = done >= self._total and not self._is_full
        if self._said_s is not None and now_s - self._said_s < LINE_EVERY_S and not is_full:
            return
        self._said_s, self._is_full = now_s, self._is_full or is_full
        elapsed_s = now_s - self._began_s
        say(f"{self._label}: {done:g} of {self._total:g} ({elapsed_s:.0f} s) {safe(note)}".rstrip())


class Waiting:
    """Names what is being waited for: at once, and every ten seconds with the time it took.

    Args:
        what: Completes "waiting for ...".
        clock_s: Monotonic seconds.
    """

    def __init__(self, what: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock_s = what, clock_s
        self._began_s = clock_s()
        self._said_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """How long it has been. [s]"""
        return self._clock_s() - self._began_s

    def still(self, note: str = "") -> None:
        """Says so, if it was not said in the last ten seconds."""
        now_s = self._clock_s()
        if self._said_s is not None and now_s - self._said_s < LINE_EVERY_S:
            return
        since = "" if self._said_s is None else f" ({self.elapsed_s:.0f} s so far)"
        self._said_s = now_s
        say(f"waiting for {self._what}{since}{': ' + safe(note) if note else ''}")


@contextmanager
def live(make: Callable[[], Table]) -> Iterator[Callable[[], None]]:
    """Keeps a table on the terminal up to date; yields the function that redraws it.

    Without a terminal nothing is drawn: print a line an event instead.
    """
    if not is_terminal():
        yield lambda: None
        return
    with Live(make(), console=stdout(), auto_refresh=False) as shown:
        yield lambda: shown.update(make(), refresh=True)


def plain(text: str) -> Text:
    """Returns text that rich shows as it is; data in it must be `safe`."""
    return Text(text)
