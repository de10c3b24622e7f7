"""The spool: every trial is on the actor's disk, step by step, before anybody is told of it.

A trial is `open` while its steps come in, `ready` when it ended, `acked` once the learner holds it
durably, `rejected` when it can never be delivered; the last kind is kept for people to look at.
Records may come again after a restart: trial ids and step indices make the repetition harmless.
What a dead process left open is continued if its records come again, else it becomes an aborted
trial with all that was recorded of it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from learner.durable import FolderLock
from protos import codec
from protos.trial import Outcome, RobotSpec, Trial, step_fields
from services.records import LOST_END, Record
from services.spool_db import (
    SpoolCorrupt,
    SpoolFull,
    connect,
    read_trial,
    settle,
    sqlite_errors,
    transaction,
)
from services.spool_intake import Intake

logger = logging.getLogger(__name__)

_STATES = ("open", "ready", "acked", "rejected")


@dataclass(frozen=True, kw_only=True)
class SpoolConfig:
    """Where trials wait for the learner, and how much of the disk they leave alone."""

    root: Path
    """Folder of the spool. One actor, one spool."""
    reserve_bytes: int = 1 << 30
    """No trial may begin that would leave less than this free on the disk."""
    keep_acked_s: float = 24 * 3600.0
    """How long a delivered trial stays on the actor's disk."""

    def __post_init__(self) -> None:
        if self.reserve_bytes < 0 or self.keep_acked_s < 0:
            raise ValueError("reserve_bytes and keep_acked_s must not be negative")


@dataclass(frozen=True, kw_only=True)
class SpoolCounts:
    """How many trials are in which state."""

    num_open: int
    num_ready: int
    num_acked: int
    num_rejected: int
    ready_bytes: int


class Spool:
    """Keeps trials on disk until the learner has them; safe to call from several threads.

    Args:
        config: Where, and how much.
        unix_ns: Wall clock.
        free_bytes: Says how much is free on the disk of a folder.

    Raises:
        StoreLocked: Another process uses this spool.
        SpoolVersionMismatch: It was written by another version.
        SpoolCorrupt: Its file is damaged.
        SpoolFull: The disk is too full to open it.
    """

    def __init__(
        self,
        config: SpoolConfig,
        *,
        unix_ns: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self.config = config
        self._unix_ns = unix_ns
        self._free_bytes = free_bytes
        config.root.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(config.root / "spool.lock", f"the spool {config.root}")
        try:
            self._db = connect(config.root / "spool.sqlite")
        except BaseException:
            self._lock.release()
            raise
        self._mutex = threading.Lock()
        self._intake = Intake(self._db, unix_ns)

    def close(self) -> None:
        """Closes the file and frees the lock."""
        with self._mutex:
            self._db.close()
        self._lock.release()

    # ---- the recorder's side --------------------------------------------------------------------

    def require_room(self, spec: RobotSpec) -> None:
        """Raises `SpoolFull` unless a whole trial fits and the reserve stays free."""
        row = codec.row_bytes(spec.observations) + codec.row_bytes(step_fields(spec))
        needed = self.config.reserve_bytes + row * (spec.max_steps + 1)
        free = self._free_bytes(self.config.root)
        if free < needed:
            raise SpoolFull(
                f"{free >> 20} MiB are free under {self.config.root}, a trial needs "
                f"{needed >> 20} MiB with the reserve; free some, or start the learner"
            )

    def add(self, records: Sequence[Record]) -> None:
        """Writes records, all of them durably or none.

        A step that does not fit the spec ends its trial there: it becomes an aborted one.

        Raises:
            SpoolFull: The disk is full; nothing of `records` was written.
        """
        with self._mutex, self._intake.undone_on_failure(), transaction(self._db):
            for record in records:
                self._intake.take(record)

    def abort_open(self, reason: str = LOST_END) -> str | None:
        """Ends the open trial as aborted; returns its id, None if none was open."""
        with self._mutex, transaction(self._db):
            return self._intake.finish_open(Outcome.ABORTED, reason)

    @property
    def open_trial_id(self) -> str | None:
        """The trial that has begun and not ended, if any."""
        with self._mutex:
            found = self._db.execute("SELECT trial_id FROM trials WHERE state = 'open'").fetchone()
        return None if found is None else str(found[0])

    def num_begun(self) -> int:
        """Counts the trials that ever began here, also those that were deleted since."""
        with self._mutex:
            found = self._db.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'trials'"
            ).fetchone()
        return 0 if found is None else int(found[0])

    # ---- the uploader's side --------------------------------------------------------------------

    def ready(self, *, limit: int = 64) -> list[str]:
        """Returns the trials to be delivered, oldest first."""
        with self._mutex:
            found = self._db.execute(
                "SELECT trial_id FROM trials WHERE state = 'ready' ORDER BY seq LIMIT ?", (limit,)
            ).fetchall()
        return [str(trial_id) for (trial_id,) in found]

    def load(self, trial_id: str) -> Trial:
        """Reads a finished trial, verified row by row and as a whole.

        Raises:
            KeyError: No such trial is here.
            SpoolCorrupt: It is not what was written.
        """
        with self._mutex:
            trial = read_trial(self._db, trial_id)
            (digest,) = self._db.execute(
                "SELECT digest FROM trials WHERE trial_id = ?", (trial_id,)
            ).fetchone()
        if trial.digest() != digest:
            raise SpoolCorrupt(f"trial {trial_id} has another digest than when it ended")
        return trial

    def mark_acked(self, trial_id: str, ledger_seq: int) -> None:
        """Notes that the learner holds the trial durably."""
        with self._mutex, transaction(self._db):
            settle(self._db, trial_id, "acked", unix_ns=self._unix_ns(), ledger_seq=ledger_seq)

    def mark_rejected(self, trial_id: str, reason: str) -> None:
        """Notes that the trial cannot be delivered; it stays until a person removes it."""
        with self._mutex, transaction(self._db):
            settle(self._db, trial_id, "rejected", unix_ns=self._unix_ns(), reason=reason)

    def last_settled(self) -> tuple[str, int] | None:
        """Returns id and ledger_seq of the trial that began last of those that need no delivery.

        The ledger_seq of one that can never be delivered is 0. None while there is no such trial.
        """
        with self._mutex:
            return self._db.execute(
                "SELECT trial_id, ledger_seq FROM trials WHERE state IN ('acked', 'rejected') "
                "ORDER BY seq DESC LIMIT 1"
            ).fetchone()

    def rejected(self) -> list[tuple[str, str]]:
        """Returns id and reason of every trial that cannot be delivered, oldest first."""
        with self._mutex:
            return self._db.execute(
                "SELECT trial_id, reason FROM trials WHERE state = 'rejected' ORDER BY seq"
            ).fetchall()

    def counts(self) -> SpoolCounts:
        """Counts the trials by state."""
        with self._mutex:
            found = {
                state: (count, num_bytes)
                for state, count, num_bytes in self._db.execute(
                    "SELECT state, count(*), sum(num_bytes) FROM trials GROUP BY state"
                )
            }
        number = {f"num_{s}": found.get(s, (0, 0))[0] for s in _STATES}
        return SpoolCounts(**number, ready_bytes=found.get("ready", (0, 0))[1])

    def collect_garbage(self, *, is_pressing: bool = False) -> int:
        """Deletes delivered trials past their time, all of them if it `is_pressing`.

        The newest trial stays. Returns how many were deleted.
        """
        keep_s = 0.0 if is_pressing else self.config.keep_acked_s
        before = self._unix_ns() - int(keep_s * 1e9)
        with self._mutex:
            with transaction(self._db):
                cursor = self._db.execute(
                    "DELETE FROM trials WHERE state = 'acked' AND settled_unix_ns <= ? AND seq < "
                    "(SELECT max(seq) FROM trials)",
                    (before,),
                )
            if cursor.rowcount:
                with sqlite_errors("the spool"):
                    self._db.executescript("PRAGMA incremental_vacuum")  # execute() frees one page
        return cursor.rowcount
