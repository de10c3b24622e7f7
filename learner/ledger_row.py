"""Rows of the ledger, and the columns they are kept in. Each carries a digest of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from protos.trial import Outcome, Source, Trial

COLUMNS = (
    "trial_id",
    "digest",
    "group_sha256",
    "source",
    "outcome",
    "num_steps",
    "total_reward",
    "actor",
    "weights_version",
    "position_index",
    "committed_unix_ns",
    "header",
)


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """What the ledger knows about one committed trial."""

    ledger_seq: int | None = None
    """Order of commit, from 1; None until appended."""
    trial_id: str
    digest: str
    """SHA-256 of the trial, see `Trial.digest`."""
    group_sha256: str
    """SHA-256 of the group's root metadata, which lists the digests of all its files."""
    source: Source
    outcome: Outcome
    num_steps: int
    total_reward: float
    actor: str
    weights_version: int
    position_index: int | None
    committed_unix_ns: int
    header: str
    """`Trial.header` as canonical JSON."""

    @property
    def is_trainable(self) -> bool:
        """Whether a learner may train on it, as `Trial.is_trainable`."""
        return self.outcome is not Outcome.ABORTED and self.source is not Source.EVAL

    @property
    def is_success(self) -> bool:
        """Whether the task was reached at any step."""
        return self.outcome is Outcome.SUCCESS

    @classmethod
    def from_trial(
        cls, trial: Trial, *, digest: str, group_sha256: str, committed_unix_ns: int
    ) -> TrialRow:
        """Describes `trial` for the ledger."""
        return cls(
            trial_id=trial.trial_id,
            digest=digest,
            group_sha256=group_sha256,
            source=trial.provenance.source,
            outcome=trial.outcome,
            num_steps=trial.num_steps,
            total_reward=trial.total_reward,
            actor=trial.provenance.actor,
            weights_version=trial.provenance.weights_version,
            position_index=trial.provenance.position_index,
            committed_unix_ns=committed_unix_ns,
            header=canonical_json(trial.header()),
        )


@dataclass(frozen=True, kw_only=True)
class QuarantineRow:
    """A trial that was refused after its upload."""

    trial_id: str
    digest: str
    reason: str
    unix_ns: int


@dataclass(frozen=True, kw_only=True)
class DamagedRow:
    """A row that is not the one that was written."""

    ledger_seq: int
    trial_id: str
    """As it reads now, which may be wrong too."""


def canonical_json(value: Any) -> str:
    """Returns the one text form of `value` that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def to_columns(row: TrialRow) -> tuple[Any, ...]:
    """Returns the values of `COLUMNS`, and their digest."""
    values = tuple(getattr(row, name) for name in COLUMNS)
    return (*values, _sha256(values))


def from_columns(raw: tuple[Any, ...]) -> TrialRow | DamagedRow:
    """Reads `ledger_seq`, the values of `COLUMNS` and their digest."""
    seq, *values, row_sha256 = raw
    if not _is_as_written(tuple(values), row_sha256):
        return DamagedRow(ledger_seq=seq, trial_id=str(values[0]))
    named = dict(zip(COLUMNS, values, strict=True))
    named["source"], named["outcome"] = Source(named["source"]), Outcome(named["outcome"])
    return TrialRow(ledger_seq=seq, **named)


def _is_as_written(values: tuple[Any, ...], row_sha256: object) -> bool:
    try:
        return _sha256(values) == row_sha256
    except TypeError:  # a blob, where none was written
        return False


def _sha256(values: tuple[Any, ...]) -> str:
    return hashlib.sha256(canonical_json(list(values)).encode()).hexdigest()
