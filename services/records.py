"""What the loop tells the recorder, and what it is told in return.

The order of records is `TrialBegin`, then one `StepRecord` a step, then `TrialEnd`. The beginning
carries the first observation and every step the observation it led to, so that what has been
recorded is a valid trial after each record, also when the loop dies before the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from protos.trial import Outcome, Provenance, RobotSpec

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
