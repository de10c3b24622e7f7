"""Reads a store back and says what is not as it was written; a learner may commit meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from learner import layout
from learner.ledger import Ledger
from learner.zarr_group import TrialCorrupt
from protos.trial import Trial

_YOUNG_S = 60.0
"""A group of that age may be one whose commit is under way."""
_COMMIT_S = 1.0
"""How long its row is waited for: it is written right after the group got its name."""
_LOOK_S = 0.05


@dataclass(frozen=True, kw_only=True)
class StoreProblem:
    """One thing that is not as it should be."""

    where: str
    what: str


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """What was read and found."""

    num_trials: int
    """Trials whose row is sound; each was read."""
    problems: tuple[StoreProblem, ...]


def check_store(root: Path, ledger: Ledger, load: Callable[[str], Trial]) -> StoreReport:
    """Reads every row and every committed trial; a bad one is reported, and the rest is read.

    Args:
        root: The store's folder.
        ledger: Its ledger.
        load: Reads one trial back; TrialCorrupt if it is not what was committed.
    """
    problems = [StoreProblem(where="ledger.sqlite", what=what) for what in ledger.check()]
    # Before the rows: what is committed from here on has a row, and no group in this list.
    groups = layout.groups(root)
    rows, damaged = ledger.scan()
    problems += [
        StoreProblem(
            where="ledger.sqlite",
            what=f"row {row.ledger_seq}, of trial {row.trial_id}, is not what was written; "
            "restore ledger.sqlite from a backup",
        )
        for row in damaged
    ]
    for row in rows:
        try:
            load(row.trial_id)
        except TrialCorrupt as error:
            problems.append(StoreProblem(where=row.trial_id, what=str(error)))
    known = {row.trial_id for row in (*rows, *damaged)}
    problems += [
        StoreProblem(where=str(path.relative_to(root)), what="not in the ledger")
        for path in groups
        if path.name not in known and not _is_settled(path, ledger)
    ]
    return StoreReport(num_trials=len(rows), problems=tuple(problems))


def _is_settled(path: Path, ledger: Ledger) -> bool:
    """Whether a group without a row got one meanwhile, or was taken away."""
    deadline_s = time.monotonic() + _COMMIT_S
    while True:
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return True  # a learner that started meanwhile put it into quarantine
        if ledger.get(path.name) is not None:
            return True
        if age_s > _YOUNG_S or time.monotonic() >= deadline_s:
            return False
        time.sleep(_LOOK_S)
