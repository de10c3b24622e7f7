"""Committed trials as lines, whether they are read from a store on disk or from a learner."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from learner.ledger import TrialRow
from protos import learner_pb2
from protos.trial import Trial

COLUMNS = (">#", "trial", "source", "actor", ">weights", ">steps", ">reward", "result", ">place")


@dataclass(frozen=True, kw_only=True)
class TrialLine:
    """What there is to say about a committed trial in one line."""

    ledger_seq: int
    trial_id: str
    digest: str
    source: str
    outcome: str
    num_steps: int
    total_reward: float
    actor: str
    weights_version: int
    position_index: int | None
    committed_unix_ns: int

    @classmethod
    def from_row(cls, row: TrialRow) -> TrialLine:
        """Reads a ledger row."""
        assert row.ledger_seq is not None
        return cls(
            ledger_seq=row.ledger_seq,
            trial_id=row.trial_id,
            digest=row.digest,
            source=row.source.value,
            outcome=row.outcome.value,
            num_steps=row.num_steps,
            total_reward=row.total_reward,
            actor=row.actor,
            weights_version=row.weights_version,
            position_index=row.position_index,
            committed_unix_ns=row.committed_unix_ns,
        )

    @classmethod
    def from_message(cls, message: learner_pb2.CommittedTrial) -> TrialLine:
        """Reads what a learner sends."""
        return cls(
            ledger_seq=message.ledger_seq,
            trial_id=message.trial_id,
            digest=message.trial_digest,
            source=message.source,
            outcome=message.outcome,
            num_steps=message.num_steps,
            total_reward=message.total_reward,
            actor=message.actor_id,
            weights_version=message.weights_version,
            position_index=(message.position_index if message.HasField("position_index") else None),
            committed_unix_ns=message.committed_unix_ns,
        )

    @classmethod
    def from_trial(cls, trial: Trial, number: int) -> TrialLine:
        """Describes a trial that is in no ledger, as number `number`."""
        row = TrialRow.from_trial(
            trial, digest=trial.digest(), group_sha256="", committed_unix_ns=time.time_ns()
        )
        return cls.from_row(dataclasses.replace(row, ledger_seq=number))

    def cells(self) -> tuple[object, ...]:
        """Returns the values of `COLUMNS`."""
        return (
            self.ledger_seq,
            self.trial_id,
            self.source,
            self.actor,
            f"v{self.weights_version}" if self.weights_version else "-",
            self.num_steps,
            f"{self.total_reward:g}",
            self.outcome,
            "-" if self.position_index is None else self.position_index,
        )

    def to_json(self) -> Mapping[str, Any]:
        """Returns plain JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(self.committed_unix_ns / 1e9))
        version = f"v{self.weights_version}" if self.weights_version else "no weights"
        return (
            f"{when}  #{self.ledger_seq}  {self.trial_id}  {self.source}  {self.actor}  {version}  "
            f"{self.num_steps} steps  reward {self.total_reward:g}  {self.outcome}"
        )


def select(
    lines: Iterator[TrialLine], *, source: str | None, outcome: str | None, limit: int | None
) -> list[TrialLine]:
    """Returns the newest `limit` lines that fit, oldest first."""
    fitting = [
        line
        for line in lines
        if (source is None or line.source == source)
        and (outcome is None or line.outcome == outcome)
    ]
    return fitting if limit is None else fitting[len(fitting) - min(limit, len(fitting)) :]
