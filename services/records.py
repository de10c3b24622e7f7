"""What the control loop hands to the recorder, and what the recorder tells the loop.

The loop produces records, in order; the recorder takes them from a `RecordSource` at least once: a
record counts as consumed when `commit` is called, which happens after it was written to disk, so a
recorder that was killed is handed the rest again. Trial id and step index make that harmless.

The first observation comes with the beginning of a trial and every step brings the observation it
led to. So whatever has been recorded of a trial at any instant is a valid one, if an aborted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from protos.trial import Outcome, Provenance


@dataclass(frozen=True, kw_only=True)
class TrialBegin:
    """A trial starts."""

    trial_id: str
    number: int
    """Counts the trials of one source, from 1."""
    provenance: Provenance
    observation: Mapping[str, Any]
    """What is seen before the first action, by field name of the spec. [*field.shape]"""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One finished step."""

    trial_id: str
    step_index: int
    """Counts from 0 within the trial, without gaps."""
    step: Mapping[str, Any]
    """One row of the columns of `protos.trial.step_fields`. [*field.shape]"""
    observation: Mapping[str, Any]
    """What was seen after the action, by field name of the spec. [*field.shape]"""


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """A trial ends, with the last step recorded or with the first observation."""

    trial_id: str
    outcome: Outcome
    abort_reason: str = ""


Record = TrialBegin | StepRecord | TrialEnd


@dataclass(frozen=True, kw_only=True)
class LoopStatus:
    """What the control loop says about itself, for the heartbeat."""

    state: str = "idle"
    weights_version: int = 0
    """The version it plans with; 0 for none."""
    fault: str = ""


class RecordSource(Protocol):
    """Where the recorder gets its records."""

    @property
    def source_id(self) -> str:
        """Names this source, also across restarts of the recorder; a new ring has a new name."""
        ...

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Waits up to `timeout_s` and returns the records not polled yet, oldest first."""
        ...

    def commit(self) -> None:
        """Says that everything polled so far is on disk and need not be handed out again."""
        ...


class LoopLink(Protocol):
    """What recorder and loop tell each other beside records. Called from several threads."""

    def status(self) -> LoopStatus:
        """Returns the loop's latest word about itself."""
        ...

    def announce_weights(self, version: int) -> None:
        """Says that SPOOL/weights/VERSION holds the newest verified weights; 0 takes it back."""
        ...

    def announce_link(self, *, is_up: bool) -> None:
        """Says whether the learner answers."""
        ...

    def announce_room(self, *, has_room: bool) -> None:
        """Says whether the spool has room for one more trial; without it none should begin."""
        ...

    def announce_progress(self, *, num_acked: int, num_trained: int, num_unsent: int) -> None:
        """Says how far the trials have come.

        Args:
            num_acked: Trials of this source, counted from the first without a gap, that the
                learner has answered for: stored, or refused for good.
            num_trained: Those of them that the announced weights have learned from, or never will.
            num_unsent: Trials on disk without an answer, of earlier sources too.
        """
        ...
