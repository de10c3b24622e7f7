"""What the loop tells the recorder, and how a trial is put together from it.

The order of records is `TrialBegin`, then one `StepRecord` a step, then `TrialEnd`. The beginning
carries the first observation and every step the observation it led to, so that what has been
recorded is a valid trial after each record, also when the loop dies before the end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from protos.trial import Outcome, Provenance, RobotSpec, Trial, step_fields

logger = logging.getLogger(__name__)

LOST_END = "the loop died during the trial"


@dataclass(frozen=True, kw_only=True)
class TrialBegin:
    """A trial began: everything known before its first step."""

    number: int
    """Which trial of this ring it is, from 1."""
    trial_id: str
    spec: RobotSpec
    provenance: Provenance
    observation: Mapping[str, np.ndarray]
    """What the robot saw before the first step, by field name. [*field.shape]"""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One finished step: its action has had its period, and its reward is known."""

    index: int
    """Which step of the trial, from 0."""
    columns: Mapping[str, np.ndarray]
    """Values of `step_fields`, by column name. [*field.shape]"""
    observation: Mapping[str, np.ndarray]
    """What the robot saw after the step, by field name. [*field.shape]"""


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """A trial ended. Nothing more belongs to it."""

    number: int
    """Which trial of this ring it is, from 1."""
    outcome: Outcome
    abort_reason: str = ""


Record = TrialBegin | StepRecord | TrialEnd


class RecordSource(Protocol):
    """Where records come from: the ring, or a list in a test."""

    def poll(self, timeout_s: float) -> list[Record]:
        """Returns the records not handed out yet, in order; empty when `timeout_s` passes.

        No answer reaches past a `TrialEnd`.
        """
        ...

    def commit(self) -> None:
        """Lets go of every trial whose end has been handed out: it is on disk now.

        What was polled and not committed is handed out again to the next reader.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoopStatus:
    """What the control loop says about itself, for the heartbeat."""

    state: str = "idle"
    weights_version: int = 0
    """The version it plans with; 0 for none."""
    fault: str = ""


class LoopLink(Protocol):
    """What the recorder and the loop tell each other besides records."""

    def status(self) -> LoopStatus:
        """Returns the loop's latest word about itself."""
        ...

    def announce_weights(self, version: int) -> None:
        """Says that SPOOL/weights/VERSION holds the newest verified weights."""
        ...

    def announce_room(self, *, has_room: bool) -> None:
        """Says whether the spool has room for one more trial; without it none may begin."""
        ...

    def announce_link(self, *, is_up: bool) -> None:
        """Says whether the learner answers; the loop waits for weights only while it does."""
        ...

    def announce_acked(self, *, trial_id: str, ledger_seq: int) -> None:
        """Says that the learner holds a trial, and as which row of its ledger.

        The loop waits at the end of a trial for weights that are trained through that row. Said
        again for the last one after a restart of the recorder.
        """
        ...

    def announce_unsent(self, num_trials: int) -> None:
        """Says how many trials of the spool wait for an acknowledgement; before each `commit`."""
        ...


class TrialAssembler:
    """Puts records together to trials."""

    def __init__(self) -> None:
        self._begin: TrialBegin | None = None
        self._steps: list[StepRecord] = []
        self._gap = ""

    @property
    def open_trial_id(self) -> str | None:
        """The trial that has begun and not ended, if any."""
        return None if self._begin is None else self._begin.trial_id

    def add(self, record: Record) -> Trial | None:
        """Takes the next record; returns the trial that it completes, if it does.

        A beginning inside an open trial completes that one as aborted. A step that comes again is
        ignored; after one that is missing the trial is cut there and aborted.

        Raises:
            TrialRejected: The records do not make a valid trial; it is dropped.
        """
        if isinstance(record, TrialBegin):
            lost = self.abort(LOST_END)
            self._begin = record
            return lost
        if self._begin is None:
            logger.warning("record=%s without a beginning: ignored", type(record).__name__)
            return None
        if isinstance(record, StepRecord):
            if record.index == len(self._steps) and not self._gap:
                self._steps.append(record)
            elif record.index > len(self._steps):
                self._gap = self._gap or f"the record of step {len(self._steps)} was lost"
            return None
        if self._gap:
            return self._finish(Outcome.ABORTED, self._gap)
        return self._finish(record.outcome, record.abort_reason)

    def abort(self, reason: str) -> Trial | None:
        """Completes the open trial as aborted; None when no trial is open.

        Raises:
            TrialRejected: The records do not make a valid trial; it is dropped.
        """
        if self._begin is None:
            return None
        return self._finish(Outcome.ABORTED, reason)

    def _finish(self, outcome: Outcome, abort_reason: str) -> Trial:
        assert self._begin is not None
        begin, steps = self._begin, self._steps
        self._begin, self._steps, self._gap = None, [], ""
        rows = [begin.observation, *(s.observation for s in steps)]
        return Trial(
            trial_id=begin.trial_id,
            spec=begin.spec,
            provenance=begin.provenance,
            outcome=outcome,
            observations={
                f.name: np.stack([row[f.name] for row in rows]) for f in begin.spec.observations
            },
            steps={
                f.name: np.stack([s.columns[f.name] for s in steps])
                if steps
                else np.zeros((0, *f.shape), f.dtype)
                for f in step_fields(begin.spec)
            },
            abort_reason=abort_reason,
        )
