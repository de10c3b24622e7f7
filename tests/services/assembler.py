"""Trials from records, in memory: what the spool does on disk."""

from __future__ import annotations

import numpy as np

from protos.trial import Outcome, Trial, step_fields
from services.records import LOST_END, Record, StepRecord, TrialBegin


class TrialAssembler:
    """Puts records together to trials."""

    def __init__(self) -> None:
        self._begin: TrialBegin | None = None
        self._steps: list[StepRecord] = []
        self._gap = ""

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
