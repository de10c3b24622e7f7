"""The benchmarks count what they say they count, and run."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from protos.trial import FALLBACK_CODES, Fallback, Outcome, Trial
from tests.bench import __main__ as bench
from tests.bench import bench_commit, bench_malformed, record
from tests.bench.bench_resume import count_differing
from tests.bench.deadlines import count_deadlines
from tests.bench.record import BenchRecord, PartRecord
from tests.bench.row import Row, percentile_rows, ratio_row
from tests.marked_table import with_part
from tests.services.trials import PERIOD_NS, make_trial

MS = 1_000_000


def trial_with(due: list[int], late_ms: list[float], *, fallbacks: int = 0) -> Trial:
    """A trial whose steps were due at these periods and commanded so much later."""
    trial = make_trial(num_steps=len(due))
    steps = dict(trial.steps)
    steps["t_scheduled_ns"] = 5_000_000_000 + PERIOD_NS * np.array(due)
    steps["t_commanded_ns"] = steps["t_scheduled_ns"] + (np.array(late_ms) * MS).astype(np.int64)
    steps["fallback"] = steps["fallback"].copy()
    steps["fallback"][:fallbacks] = FALLBACK_CODES[Fallback.HOLD]
    return dataclasses.replace(trial, steps=steps)


def test_a_loop_on_time_misses_nothing() -> None:
    found = count_deadlines([trial_with([0, 1, 2], [20, 30, 100]), trial_with([0, 1], [1, 2])])
    assert (found.num_due, found.num_missed, found.num_fallbacks) == (5, 0, 0)
    assert sorted(found.late_ms.tolist()) == [1, 2, 20, 30, 100]


@pytest.mark.parametrize(
    ("due", "late_ms", "num_missed"),
    [
        ([0, 1, 2, 3], [20, 101, 20, 20], 1),  # a command that came too late
        ([0, 1, 3, 4], [20, 130, 20, 20], 2),  # and that cost the deadline after it too
        ([0, 1, 5, 6], [20, 20, 20, 20], 3),  # nobody was there: no step tells
    ],
)
def test_a_deadline_without_a_command_is_missed(
    due: list[int], late_ms: list[float], num_missed: int
) -> None:
    found = count_deadlines([trial_with(due, late_ms, fallbacks=2)])
    assert (found.num_due, found.num_missed, found.num_fallbacks) == (due[-1] + 1, num_missed, 2)
    assert len(found.late_ms) == len(due)


def test_a_plan_that_was_not_there_in_time_is_no_missed_command() -> None:
    trial = trial_with([0, 1, 2, 3], [20, 90, 101, 20], fallbacks=2)
    trial.steps["deadline_missed"][:] = [False, True, True, False]
    found = count_deadlines([trial])
    assert (found.num_missed, found.num_plans_late, found.num_fallbacks) == (1, 1, 2)


def test_a_trial_without_a_step_has_no_deadline() -> None:
    whole = make_trial(num_steps=1)
    empty = dataclasses.replace(
        whole,
        outcome=Outcome.ABORTED,
        abort_reason="stopped",
        observations={name: rows[:1] for name, rows in whole.observations.items()},
        steps={name: rows[:0] for name, rows in whole.steps.items()},
    )
    found = count_deadlines([empty])
    assert (found.num_due, found.num_missed, len(found.late_ms)) == (0, 0, 0)


def state(**changes: object) -> dict[str, object]:
    tensors = {"w": torch.tensor([[0.0, 1.0], [2.0, 3.0]]), "draws": torch.arange(3)}
    return {"part": [{**tensors, **changes}], "step": 4, "note": None}


def test_equal_states_differ_in_nothing() -> None:
    assert count_differing(state(), state()) == (9, 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"w": torch.tensor([[-0.0, 1.0], [2.0, 3.5]])}, (9, 2)),
        ({"draws": torch.arange(3) + 1}, (9, 3)),
        ({"more": torch.zeros(5)}, (14, 5)),
        ({"w": torch.zeros(4)}, (13, 8)),
        ({"scalar": 0.5}, (10, 1)),
    ],
)
def test_every_number_that_differs_by_a_bit_counts(
    changes: dict[str, object], expected: tuple[int, int]
) -> None:
    assert count_differing(state(), state(**changes)) == expected
    assert count_differing(state(**changes), state()) == expected


def test_rows_say_what_they_are() -> None:
    assert str(Row(figure="lost", value=0, unit="", target="0")).split() == ["lost", "0", "0"]
    assert str(Row(figure="late", value=2, unit="ms")).split() == ["late", "2", "ms", "-"]
    assert ratio_row("twice", [4.0, 2.0, 100.0], [2.0, 1.0, 3.0]).value == 2.0
    rows = percentile_rows("late", np.arange(101.0), {50: "-", 99: "<= 3"})
    assert [(r.figure, r.value, r.target) for r in rows] == [
        ("late, p50", 50.0, "-"),
        ("late, p99", 99.0, "<= 3"),
    ]


def test_one_part_alone_prints_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "wire", "--dry"]) == 0
    machine, *rows = capsys.readouterr().out.splitlines()
    assert "load average" in machine
    assert len(rows) == 2
    assert rows[0].startswith("bytes on the wire")


@pytest.mark.parametrize("flags", [["--only", "nothing"], ["--minutes", "0", "--only", "wire"]])
def test_flags_that_make_no_sense_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(flags)
    assert caught.value.code == 2


@pytest.mark.parametrize("part", get_args(bench.Part))
def test_each_part_takes_the_flags_that_are_meant_for_it(part: bench.Part) -> None:
    pytest.importorskip("mujoco")
    measure = importlib.import_module(f"tests.bench.bench_{part}").measure
    assert tuple(inspect.signature(measure).parameters) == bench.SIZES.get(part, ())


def test_commits_are_compared_with_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_commit, "ROUNDS", 3)
    commit, _, file, ratio = (row.value for row in bench_commit.measure())
    assert commit > 0
    assert file > 0
    assert ratio == pytest.approx(commit / file)


def test_malformed_messages_are_counted_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_malformed, "NUM_WARM_UP", 1)
    growth, warm_up, speed = bench_malformed.measure(messages=501)
    assert "1000 malformed" in growth.figure
    assert "500 before" in warm_up.figure
    assert speed.value > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["loop", "--minutes", "0.03"],
        ["weights", "--publishes", "2"],
        ["resume"],
        ["kills", "--kills", "1"],
    ],
    ids=lambda flags: flags[0],
)
def test_a_part_runs_for_a_moment(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    assert bench.main(["--dry", "--only", *flags]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_the_readme_shows_what_was_measured() -> None:
    page = record.PAGE.read_text(encoding="utf-8")
    assert page == with_part(page, "bench", BenchRecord.read().table())
    assert set(BenchRecord.read().parts) == set(get_args(bench.Part))


def test_a_part_that_is_measured_again_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page, data = tmp_path / "page.md", tmp_path / "bench.json"
    page.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    for figure in ("first", "second"):
        rows = (
            Row(figure=figure, value=3, unit="ms", target="0"),
            Row(figure="quiet", value=1.0, unit="x"),
        )
        part = PartRecord(machine="a machine", date="today", rows=rows)
        found = BenchRecord.read(data).with_part("loop", part, ("plan", "loop"))
        record.write(found, data, page)
    assert BenchRecord.read(data) == found
    assert page.read_text() == (
        "before\n<!-- bench: begin -->\nloop: a machine, today.\n\n| figure | measured | aim |\n"
        "|---|---|---|\n| second | 3 ms | 0 |\n<!-- bench: end -->\nafter\n"
    )
