"""Has one fault happen to a running actor, and looks at everything that came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from protos.trial import Outcome
from tests.e2e.actor_rig import stored
from tests.faults.cases import FaultCase
from tests.faults.cell import Cell, make_cell
from tests.faults.result import FaultResult
from tests.services.rig import wait_until

_BEFORE_NS = 1_000_000_000
_END_S = 60.0
_DELIVERED_S = 30.0
# Longer than any trial takes to have its arm stopped.
_ABORTED_STEPS = 300
_WHOLE_STEPS = 25


def strike(case: FaultCase, folder: Path, *, control_hz: float = 10.0) -> FaultResult:
    """Runs an actor into a fault, out of it again, and returns what was seen.

    Args:
        case: What happens.
        folder: Empty; gets every file.
        control_hz: Of the loop.

    Raises:
        AssertionError: The actor did not get so far, or did not end.
    """
    steps = _ABORTED_STEPS if case.stops else _WHOLE_STEPS
    with make_cell(folder, control_hz=control_hz, max_steps=steps) as cell:
        struck = _run_into(case, cell)
        since_ns = struck.t_ns - _BEFORE_NS
        if case.stops:
            wait_until(
                lambda: cell.record(since_ns).is_settled(struck.t_ns), what="the set point rests"
            )
        record = cell.record(since_ns)
        assert record.speed_at(struck.t_ns) > 0.0, "the arm did not move when the fault struck"
        assert case.stops == (struck.code != 0), f"the actor ended with {struck.code}"
        latched = cell.latched
        assert latched in case.codes or latched == "" == "".join(case.codes), latched
        cleared = latched != "" and _moves_uncleared(cell)
        refused = None
        if case.is_refused_first:
            refused = cell.acknowledge() != 0 and cell.latched == latched
        mended_ns = time.monotonic_ns()
        case.mend(cell)
        if latched:
            cell.acknowledge()
        cleared |= bool(cell.record(mended_ns).targets_ns)
        resumed = _resumes(cell)
        rests_ns = record.rests_from_ns(struck.t_ns)
        return FaultResult(
            fault=case.name,
            during=case.during,
            stops=case.stops,
            told_ms=_ms(record.told_until_ns(struck.t_ns) - struck.t_ns) if case.stops else 0.0,
            rest_ms=_ms(rests_ns - struck.t_ns) if case.stops and rests_ns is not None else None,
            latched=latched,
            trial=_fate(cell, struck.trial_id),
            cleared_itself=cleared,
            refused_first=refused,
            resumed=resumed,
        )


@dataclass(frozen=True, kw_only=True)
class _Struck:
    t_ns: int
    trial_id: str
    """Empty where no trial had begun."""
    code: int
    """The actor's exit code."""


def _run_into(case: FaultCase, cell: Cell) -> _Struck:
    with cell.running() as actor:
        if case.during == "reset":
            cell.wait_for_reset()
        else:
            cell.wait_for_trial()
        ring = cell.ring
        assert ring is not None
        num_complete = ring.num_complete
        trial_id = ring.last_trial[1] if ring.num_begun else ""
        t_ns = time.monotonic_ns()
        case.strike(cell)
        case.after(cell)
        if case.stops:
            code = actor.wait(_END_S)
        else:
            wait_until(lambda: ring.num_complete > num_complete, what="the trial goes on")
            code = actor.stop(timeout_s=_END_S)
    return _Struck(t_ns=t_ns, trial_id=trial_id, code=code)


def _moves_uncleared(cell: Cell) -> bool:
    """Starts the actor with the fault latched; returns whether the arm was sent anywhere."""
    began_ns = time.monotonic_ns()
    with cell.running() as actor:
        code = actor.wait(_END_S)
    return code == 0 or bool(cell.record(began_ns).targets_ns)


def _resumes(cell: Cell) -> bool:
    """Starts the actor; returns whether a trial is on again."""
    with cell.running() as actor:
        try:
            cell.wait_for_trial()
        except AssertionError:
            return False
        _wait_until_delivered(cell)
        actor.stop(timeout_s=_END_S)
    return True


def _wait_until_delivered(cell: Cell) -> None:
    wait_until(
        lambda: "ready" not in cell.trials(), timeout_s=_DELIVERED_S, what="the trial is delivered"
    )


def _fate(cell: Cell, trial_id: str) -> str:
    """Returns what became of the trial that the fault struck, as the learner has it."""
    if not trial_id:
        return "none"
    for row, trial in stored(cell.store):
        if row.trial_id == trial_id:
            return "aborted" if trial.outcome is Outcome.ABORTED else "complete"
    return "lost"


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 1)
