"""Reads a spool beside the recorder that owns it, and compares it with a learner's ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from learner.ledger import Ledger, LedgerCorrupt
from learner.store_check import StoreProblem
from protos.trial import TrialRejected
from services.spool_db import SpoolCorrupt, read_trial, reading


@dataclass(frozen=True, kw_only=True)
class SpoolTrial:
    """One trial of a spool."""

    trial_id: str
    state: str
    """`open`, `ready`, `acked` or `rejected`."""
    digest: str
    """Digest when it ended; empty while it is open."""
    ledger_seq: int
    """What the learner answered; 0 before it did."""
    damage: str = ""
    """What is wrong with its rows; empty if they are as they were written."""


@dataclass(frozen=True, kw_only=True)
class SpoolReport:
    """How a spool and a ledger agree."""

    counts: dict[str, int]
    """Trials of the spool by state."""
    problems: tuple[StoreProblem, ...]


def read_spool(root: Path) -> Iterator[SpoolTrial]:
    """Yields every trial of the spool in `root`, oldest first, each read back row by row.

    Raises:
        FileNotFoundError: There is no spool.
        SpoolVersionMismatch: It was written by another version.
        SpoolCorrupt: The file is damaged.
    """
    with reading(root) as connection:
        found = connection.execute(
            "SELECT trial_id, state, digest, ledger_seq FROM trials ORDER BY seq"
        ).fetchall()
        for trial_id, state, digest, ledger_seq in found:
            damage = "" if state == "open" else _damage(connection, trial_id, digest)
            yield SpoolTrial(
                trial_id=trial_id, state=state, digest=digest, ledger_seq=ledger_seq, damage=damage
            )


def compare(spool: Path, ledger: Ledger) -> SpoolReport:
    """Compares every trial of a spool with the ledger: what was acknowledged must be there.

    Recorder and learner may work meanwhile.
    """
    # Before the spool is read: what was open there may have been delivered by the time it is asked.
    last_seq = ledger.last_seq()
    counts = {"open": 0, "ready": 0, "acked": 0, "rejected": 0}
    problems = []
    for trial in read_spool(spool):
        counts[trial.state] += 1
        what = _disagreement(trial, ledger, last_seq)
        if what:
            problems.append(StoreProblem(where=trial.trial_id, what=what))
    return SpoolReport(counts=counts, problems=tuple(problems))


def _damage(connection: sqlite3.Connection, trial_id: str, digest: str) -> str:
    try:
        trial = read_trial(connection, trial_id)
    except (SpoolCorrupt, TrialRejected) as error:
        return str(error)
    except KeyError:
        return ""  # delivered long ago and deleted since
    return "" if trial.digest() == digest else "the spool's copy has another digest than it had"


def _disagreement(trial: SpoolTrial, ledger: Ledger, last_seq: int) -> str:
    if trial.damage:
        return trial.damage
    try:
        row = ledger.get(trial.trial_id)
    except LedgerCorrupt:
        return "its row in the ledger is not what was written"
    if row is None:
        return "acknowledged, and not in the ledger: lost" if trial.state == "acked" else ""
    if trial.state == "open":
        is_new = (row.ledger_seq or 0) > last_seq
        return "" if is_new else "in the ledger, and still open in the spool"
    if row.digest != trial.digest:
        return f"digest {trial.digest[:12]} in the spool, {row.digest[:12]} in the ledger"
    if trial.state == "acked" and row.ledger_seq != trial.ledger_seq:
        return f"acknowledged as number {trial.ledger_seq}, the ledger has {row.ledger_seq}"
    return ""
