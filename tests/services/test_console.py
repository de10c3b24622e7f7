"""What is shown: hostile text is harmless, and waits say what they wait for."""

from __future__ import annotations

import itertools

import pytest

from services import console

HOSTILE = "\x1b[2J\x07[red]x[/red]\u202eabc\nnext\x9b31m"


def test_safe_text_shows_control_characters_as_their_codes() -> None:
    shown = console.safe(HOSTILE)
    assert shown == "\\x1b[2J\\x07[red]x[/red]\\x202eabc\\x0anext\\x9b31m"
    assert console.safe("plain ü 漢字") == "plain ü 漢字"
    assert console.safe("x" * 600) == "x" * 500 + "..."


def test_tables_and_lines_print_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("name",), [(HOSTILE,)])
    console.say(console.safe(HOSTILE))
    out = capsys.readouterr().out
    assert out.count("[red]x[/red]") == 2
    assert "\x1b" not in out
    assert "\x07" not in out


def test_numbers_and_names_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("name", ">count"), [("a", 5), ("bb", 50)], "title")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == ["name  count", "a         5", "bb       50"]


def test_without_a_terminal_a_bar_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = itertools.count(step=4)
    with console.bar("pretraining", 8, clock_s=lambda: float(next(clock))) as bar:
        for done in range(9):
            bar.update(done, "note")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pretraining: 0 of 8 (4 s) note"
    assert lines[-1] == "pretraining: 8 of 8 (36 s) note"
    assert len(lines) == 4  # every ten seconds of 36


def test_a_quiet_bar_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.bar("x", 2, is_quiet=True) as bar:
        bar.update(1)
    assert capsys.readouterr().out == ""


def test_a_wait_names_what_it_waits_for_and_for_how_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    waiting = console.Waiting("the learner", clock_s=lambda: now[0])
    for now[0] in (0.0, 5.0, 10.0, 12.0, 20.5):
        waiting.still()
    assert capsys.readouterr().out.splitlines() == [
        "waiting for the learner",
        "waiting for the learner (10 s so far)",
        "waiting for the learner (20 s so far)",
    ]


def test_json_refuses_what_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit_json({"a": 1})
    assert capsys.readouterr().out == '{"a": 1}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.emit_json(float("nan"))
