"""What the trainer is doing, as a small file that anyone may read at any time."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from learner.clock import Clock, SystemClock
from learner.durable import StoreFull, write_file

logger = logging.getLogger(__name__)
WRITE_EVERY_S = 1.0


class TrainerState(StrEnum):
    """What the trainer is doing."""

    LOADING = "loading"
    PRETRAINING = "pretraining"
    FINETUNING = "finetuning"
    WAITING = "waiting"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class TrainerStatus:
    """One moment of a training run."""

    state: TrainerState
    waiting_for: str = ""
    """What has to happen next, or what went wrong, in words; empty while all is well."""
    num_updates: int = 0
    updates_owed: int = 0
    """Updates still to be made for what is committed, pretraining included."""
    updates_per_second: float = 0.0
    num_offline_trials: int = 0
    """Trained on; as the next."""
    num_online_trials: int = 0
    num_unreadable_trials: int = 0
    """Committed trials that were skipped because their files are damaged."""
    weights_version: int = 0
    """Newest published version; 0 before the first."""
    ledger_seq: int = 0
    """Newest committed trial that the trainer has seen."""
    settled_seq: int = 0
    """Every trial up to this one has been trained on in full."""
    pid: int = 0
    unix_ns: int = 0
    """When this was written."""


def read_status(path: Path) -> TrainerStatus | None:
    """Returns the last status that was written; None if there is none that can be read."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return TrainerStatus(**raw | {"state": TrainerState(raw["state"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_failure(path: Path, reason: str, clock: Clock | None = None) -> None:
    """Turns the last report into one of failure, and keeps its counts.

    For whoever hears of a failure that the trainer did not live to report. Where it cannot be
    written, nothing is changed, and the log says so.
    """
    shown = read_status(path) or TrainerStatus(state=TrainerState.FAILED)
    failed = dataclasses.replace(
        shown,
        state=TrainerState.FAILED,
        waiting_for=reason,
        updates_per_second=0.0,
        unix_ns=(clock or SystemClock()).unix_ns(),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, _text(failed), is_durable=False)
    except (OSError, StoreFull) as error:
        logger.warning("trainer_status_not_written reason=%s", error)


class StatusFile:
    """Writes the status once a second, and at once when there is news beyond a count.

    Args:
        path: The file; its folder must exist.
        clock: Time.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._shown: TrainerStatus | None = None
        self._shown_at_s = 0.0
        self.updates_per_second = 0.0
        """Over the time between the last two writes."""

    def show(self, status: TrainerStatus) -> None:
        """Writes `status` if it is time to, with process, time and rate filled in."""
        now_s, shown = self._clock.monotonic_s(), self._shown
        elapsed_s = now_s - self._shown_at_s
        if shown is not None:
            if elapsed_s < WRITE_EVERY_S and _news(status) == _news(shown):
                return
            if elapsed_s >= WRITE_EVERY_S:
                done = status.num_updates - shown.num_updates
                self.updates_per_second = done / elapsed_s
        self._shown, self._shown_at_s = status, now_s
        full = dataclasses.replace(
            status,
            updates_per_second=self.updates_per_second,
            pid=os.getpid(),
            unix_ns=self._clock.unix_ns(),
        )
        try:
            write_file(self._path, _text(full), is_durable=False)
        except StoreFull:
            self._shown = None  # tried again at the next call


def _text(status: TrainerStatus) -> bytes:
    return json.dumps(dataclasses.asdict(status)).encode()


def _news(status: TrainerStatus) -> tuple[object, ...]:
    return (
        status.state,
        status.waiting_for,
        status.ledger_seq,
        status.settled_seq,
        status.weights_version,
    )
