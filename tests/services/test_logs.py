"""Log lines: one event, one line, nothing a stranger wrote can change what a person sees."""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings

import pytest

from services.logs import (
    MAX_LINE_CHARS,
    LineFormatter,
    configure_logging,
    escape,
    logging_in_background,
)


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("test", stream=stream)
    return stream


def test_line_says_when_how_bad_who_and_what(lines: io.StringIO) -> None:
    logging.getLogger("services.x").warning("event=link_down learner=%s", "h:1")
    (line,) = lines.getvalue().splitlines()
    assert line.endswith("Z WARNING test services.x: event=link_down learner=h:1")
    assert line[4] == "-"
    assert line[10] == "T"


@pytest.mark.parametrize(
    "text",
    ["a\nERROR forged", "\x1b[2J\x1b[31mred", "a\r", "\x00", "\u202eevil", "\u2028", "\x9b1m"],
)
def test_text_from_outside_cannot_forge_a_line_or_move_a_cursor(
    lines: io.StringIO, text: str
) -> None:
    logging.getLogger("x").info("note=%s", text)
    (line,) = lines.getvalue().split("\n")[:-1]
    assert line.isprintable()
    assert text not in line


def test_readable_text_stays_as_it_is() -> None:
    assert escape("Grünes Klötzchen, 5 µm [bold]") == "Grünes Klötzchen, 5 µm [bold]"


def test_long_line_is_cut(lines: io.StringIO) -> None:
    logging.getLogger("x").info("%s", "a" * 100_000)
    assert len(lines.getvalue()) < MAX_LINE_CHARS + 100


def test_journal_line_begins_with_its_priority() -> None:
    formatter = LineFormatter("p", is_journal=True)
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "event=x", None, None)
    assert formatter.format(record) == "<3>ERROR p n: event=x"


def test_traceback_is_kept_and_every_line_of_it_has_the_priority() -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "event=crashed", None, info)
    lines = LineFormatter("p", is_journal=True).format(record).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)
    assert lines[-1] == "<3>ValueError: boom"


def test_configuring_again_does_not_double_the_lines(lines: io.StringIO) -> None:
    second = io.StringIO()
    configure_logging("again", stream=second)
    logging.getLogger("x").info("event=once")
    assert lines.getvalue() == ""
    assert second.getvalue().count("event=once") == 1


def test_warnings_are_logged(lines: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    assert "old way" in lines.getvalue()


class _Stalled(io.StringIO):
    """A reader that takes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def write(self, text: str) -> int:
        self.may_go_on.wait(30)
        return super().write(text)


def test_in_the_background_a_stalled_reader_keeps_nobody_waiting() -> None:
    stream = _Stalled()
    root = logging.getLogger()
    handler = configure_logging("test", stream=stream)
    handlers = root.handlers[:]
    with logging_in_background(handler):
        for number in range(1500):
            logging.getLogger("x").info("event=line number=%d", number)
        stream.may_go_on.set()
        while stream.getvalue().count("\n") < 1000:
            threading.Event().wait(0.01)
        logging.getLogger("x").info("event=last")
    assert root.handlers == handlers
    lines = stream.getvalue().splitlines()
    assert "event=line number=999" in lines[999]
    assert "event=last" in lines[-1]
    # Told by the next line that found room: the last one, or one before if the thread woke late.
    told = [int(lost) for lost in re.findall(r"\(lines_lost=(\d+)\)$", stream.getvalue(), re.M)]
    assert sum(told) == 1501 - len(lines)
    assert len(lines) in (1001, 1002)


def test_an_end_waits_for_room_among_what_still_waits() -> None:
    stream = _Stalled()
    handler = configure_logging("test", stream=stream)
    opening = threading.Timer(0.2, stream.may_go_on.set)
    with logging_in_background(handler):
        for number in range(1500):
            logging.getLogger("x").info("event=line number=%d", number)
        opening.start()
    opening.join()
    assert "number=999" in stream.getvalue()
