"""What the loop tells the recorder, and what it is told in return.

The order of records is `TrialBegin`, then one `StepRecord` a step, then `TrialEnd`. The beginning
carries the first observation and every step the observation it led to, so that what has been
recorded is a valid trial after each record, also when the loop dies before the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from protos.trial import Outcome, Provenance, RobotSpec
from robot.interfaces import SUCCESS

LOST_END = "the loop died during the trial"
MAX_WEIGHTS_VERSION = (1 << 23) - 1
WEIGHTS_TAG_BITS = 40


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
    is_overruled: bool = False
    """A person says `outcome`, other than the rewards recorded before: `overruled` changes them."""


Record = TrialBegin | StepRecord | TrialEnd


def overruled(rewards: np.ndarray, outcome: Outcome) -> np.ndarray:
    """Returns the rewards of a trial made to say what a person says of it.

    Args:
        rewards: As they were recorded, float32; 1 is success. [L]
        outcome: Success makes the last step one, if none is; failure takes success back. What is
            left there is the last reward below success before it, 0 without one: a pick that was
            lifted is worth no less than one that was grasped.
    """
    changed = rewards.copy()
    if outcome is Outcome.FAILURE:
        last = rewards.dtype.type(0.0)
        for k, reward in enumerate(rewards):
            last = last if reward >= SUCCESS else reward
            changed[k] = last
    elif outcome is Outcome.SUCCESS and not (rewards >= SUCCESS).any():
        changed[-1:] = SUCCESS
    return changed


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


@dataclass(frozen=True)
class WeightsMark:
    """Which weights: a version, and a part of the digest of its manifest.

    The number alone does not say it. Versions count from 1 again at a learner that was started on
    a fresh store, and the weights of two may be alike to the bit and be planned with differently.
    """

    version: int
    """1 .. MAX_WEIGHTS_VERSION; 0 for none."""
    tag: int
    """The first `WEIGHTS_TAG_BITS` of the SHA-256 of the manifest's text; 0 for none."""

    @classmethod
    def of(cls, version: int, manifest_json: str) -> WeightsMark:
        """Returns the mark of a version.

        Raises:
            ValueError: The version is none that can be marked.
        """
        if not 0 < version <= MAX_WEIGHTS_VERSION:
            raise ValueError(f"weights version {version} is not in 1 .. {MAX_WEIGHTS_VERSION}")
        digest = hashlib.sha256(manifest_json.encode()).digest()
        return cls(version, int.from_bytes(digest[: WEIGHTS_TAG_BITS // 8], "big"))


NO_WEIGHTS = WeightsMark(0, 0)


class LoopLink(Protocol):
    """What the recorder and the loop tell each other besides records."""

    def status(self) -> LoopStatus:
        """Returns the loop's latest word about itself."""
        ...

    def announce_weights(self, mark: WeightsMark) -> None:
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

        The loop waits at the end of a trial for weights that are trained through that row; row 0 is
        that of a trial that no learner will ever train on. Said again for the last one after a
        restart of the recorder.
        """
        ...

    def announce_trained(self, *, version: int, ledger_seq: int) -> None:
        """Says that the learner is done with its ledger up to a row, and what came of it.

        Weights of that version are then all that there will be, also if there was nothing in those
        rows to learn from.
        """
        ...

    def announce_trainer(self, *, has_failed: bool) -> None:
        """Says whether the learner's trainer has failed: no weights are waited for then."""
        ...

    def announce_unsent(self, num_trials: int) -> None:
        """Says how many trials of the spool wait for an acknowledgement; before each `commit`."""
        ...
