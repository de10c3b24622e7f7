"""The one place that configures logging: one line an event, for journald or for a terminal.

Under systemd a line begins with its priority and has no time, both of which the journal adds by
itself. Text that came over the network is escaped: nothing that is logged can forge a line, move a
cursor or colour a terminal.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_PRIORITY = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
MAX_LINE_CHARS = 4000
_MAX_WAITING_LINES = 1000


def escape(text: str) -> str:
    """Returns `text` with everything that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LineFormatter(logging.Formatter):
    """Formats one record as one line, with its traceback on lines of its own.

    Args:
        process: What to call this process, such as `ingress`.
        is_journal: The reader is journald.
    """

    def __init__(self, process: str, *, is_journal: bool) -> None:
        super().__init__()
        self._process = process
        self._is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line without its end."""
        message = escape(record.getMessage())
        if len(message) > MAX_LINE_CHARS:
            message = message[:MAX_LINE_CHARS] + "..."
        line = f"{record.levelname} {self._process} {record.name}: {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if self._is_journal:
            prefix = f"<{_PRIORITY.get(record.levelno, 6)}>"
            return "\n".join(prefix + part for part in line.split("\n"))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{stamp}.{int(record.msecs):03d}Z {line}"


def configure_logging(
    process: str, *, level: str = "INFO", stream: TextIO | None = None
) -> logging.Handler:
    """Sends the records of this process to standard error; replaces an earlier configuration.

    Args:
        process: What to call this process.
        level: Least severe level that is shown.
        stream: Where to write instead.

    Returns:
        The handler, so that it can be taken away again.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    is_journal = stream is None and "JOURNAL_STREAM" in os.environ
    handler.setFormatter(LineFormatter(process, is_journal=is_journal))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, LineFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # It tells at every start that an optional part of it is not there.
    logging.getLogger("OpenGL").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    return handler


class _Listener(logging.handlers.QueueListener):
    """Writes what waits, and ends after it."""

    def __init__(self, waiting: queue.Queue[Any], handler: logging.Handler) -> None:
        super().__init__(waiting, handler)
        self._waiting = waiting

    def enqueue_sentinel(self) -> None:
        """Waits for room; the standard one raises where there is none."""
        self._waiting.put(None)


class _Waiting(logging.handlers.QueueHandler):
    """Leaves records to a thread; those that find no room are counted, and told of later."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(waiting)
        self._waiting = waiting
        self._num_lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            if self._num_lost:
                record.msg = f"{record.msg} (lines_lost={self._num_lost})"
            self._waiting.put_nowait(record)
        except queue.Full:
            self._num_lost += 1
        else:
            self._num_lost = 0


@contextmanager
def logging_in_background(handler: logging.Handler) -> Iterator[None]:
    """Has a thread write the lines of `handler`, so that no line ever keeps its author waiting.

    Args:
        handler: Of the root logger. What still waits at the end of the block is written then.
    """
    root = logging.getLogger()
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_WAITING_LINES)
    waiting, listener = _Waiting(lines), _Listener(lines, handler)
    root.removeHandler(handler)
    root.addHandler(waiting)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(waiting)
        root.addHandler(handler)
        listener.stop()
