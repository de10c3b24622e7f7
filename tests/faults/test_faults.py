"""The table of faults is what was measured, and what was measured is as it should be."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from tests.faults.record import Record, Sample
from tests.faults.result import PAGE, FaultResult, FaultRun, row, table, with_table

needs_sdks = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xarm", "pyrealsense2", "mujoco")),
    reason="a vendor's SDK is not installed",
)
MS = 1_000_000
# What no other test has happen to a whole actor; the others are run by `make chaos`.
ALWAYS = {
    ("loop frozen (SIGSTOP)", "reset"),
    ("power of the workstation lost", "trial"),
}
RESULT = FaultResult(
    fault="a bolt",
    during="trial",
    stops=True,
    told_ms=12.4,
    rest_ms=80.0,
    latched="loop_gone",
    trial="aborted",
    cleared_itself=False,
    resumed=True,
)
RUN = FaultRun(machine="a machine", date="today", control_hz=10.0, results=(RESULT,))


def record_of(*speeds: float, targets_ms: tuple[int, ...] = ()) -> Record:
    """Returns a record with a sample every 10 ms from 10 ms on."""
    samples = (Sample(t_ns=10 * (n + 1) * MS, speed_m_s=v, state=1) for n, v in enumerate(speeds))
    return Record(samples=tuple(samples), targets_ns=tuple(t * MS for t in targets_ms))


def test_the_page_shows_what_was_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page, FaultRun.read())


@needs_sdks
def test_every_fault_was_measured_and_went_as_it_should() -> None:
    from tests.faults.cases import CASES

    run = FaultRun.read()
    named = {f"{case.name}, {case.during}": case for case in CASES}
    measured = {f"{result.fault}, {result.during}": result for result in run.results}
    assert run.not_measured == ()
    assert set(measured) == set(named)
    for name, result in measured.items():
        case = named[name]
        aborted = "aborted" if case.during == "trial" else "none"
        assert result.trial == (aborted if case.stops else "complete"), result
        assert result.resumed, result
        assert not result.cleared_itself, result
        assert result.refused_first == (True if case.is_refused_first else None), result
        assert (result.latched in case.codes) or result.latched == "".join(case.codes), result
    assert run.over_bound() == []


def test_a_target_counts_after_the_fault_only_and_rest_is_for_good() -> None:
    record = record_of(0.2, 0.2, 0.0, 0.1, 0.0, 0.0, targets_ms=(5, 15, 38))
    assert record.told_until_ns(20 * MS) == 38 * MS
    assert record.told_until_ns(40 * MS) == 40 * MS
    assert record.rests_from_ns(20 * MS) == 50 * MS  # it stood still in between, but not for good
    assert record.speed_at(25 * MS) == 0.2
    assert not record.is_settled(20 * MS)
    assert record_of(0.2, *[0.0] * 60).is_settled(5 * MS)


def test_an_arm_that_never_rests_is_not_settled() -> None:
    record = record_of(*[0.2] * 100)
    assert record.rests_from_ns(20 * MS) is None
    assert not record.is_settled(20 * MS)


def test_targets_that_the_controller_did_not_take_do_not_count() -> None:
    line = json.dumps(
        {
            "samples": [{"t_ns": 1, "speed_m_s": 0.1, "state": 1}],
            "motions": [{"t_ns": 2, "is_taken": True}, {"t_ns": 3, "is_taken": False}],
        }
    )
    assert Record.parse(line).targets_ns == (2,)


def test_a_run_comes_back_from_its_file_and_says_what_is_over_the_bound(tmp_path: Path) -> None:
    late = dataclasses.replace(RESULT, fault="late", rest_ms=250.1)
    never = dataclasses.replace(RESULT, fault="never", rest_ms=None)
    free = dataclasses.replace(RESULT, fault="free", stops=False, told_ms=9000.0, rest_ms=None)
    run = RUN.with_result(late).with_result(free)
    (tmp_path / "run.json").write_text(run.to_json())
    assert FaultRun.read(tmp_path / "run.json") == run
    assert run.over_bound() == [late]
    assert run.with_result(never).over_bound() == [late, never]
    assert "late, trial (250 ms), never, trial (**never**)" in table(run.with_result(never))
    told = dataclasses.replace(RESULT, told_ms=260.0)
    assert dataclasses.replace(RUN, results=(told,)).over_bound() == []
    assert RUN.not_measured == ()
    owing = dataclasses.replace(RUN, not_measured=("late, trial", "later, trial"))
    assert owing.with_result(late).not_measured == ("later, trial",)
    better = dataclasses.replace(late, rest_ms=3.0)
    assert run.with_result(better).results == (RESULT, better, free)


def test_what_is_not_as_it_should_be_stands_out() -> None:
    assert "**" not in row(RESULT)
    wrongs = (
        {"cleared_itself": True},
        {"resumed": False},
        {"refused_first": False},
        {"rest_ms": None},
    )
    for wrong in wrongs:
        assert "**" in row(dataclasses.replace(RESULT, **wrong))


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="faults: begin"):
        with_table("# A page\n", RUN)


def all_cases() -> list[object]:
    if importlib.util.find_spec("xarm") is None:
        return []
    from tests.faults.cases import CASES

    return [
        pytest.param(
            case,
            id=f"{case.name}, {case.during}",
            marks=() if (case.name, case.during) in ALWAYS else pytest.mark.slow,
        )
        for case in CASES
    ]


@needs_sdks
@pytest.mark.alone
@pytest.mark.parametrize("case", all_cases())
def test_a_fault_stops_the_arm_keeps_the_trial_and_waits_for_a_person(case, tmp_path: Path) -> None:
    from tests.faults.strike import strike

    result = strike(case, tmp_path)
    assert result.resumed
    assert not result.cleared_itself
    assert result.refused_first in (None, True)
    aborted = "aborted" if case.during == "trial" else "none"
    assert result.trial == (aborted if case.stops else "complete")
    assert dataclasses.replace(RUN, results=(result,)).over_bound() == []
