"""What a system that was killed again and again must have kept, compared from all sides."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from learner.checkpoint import CheckpointStore
from learner.ledger import TrialRow
from learner.status import TrainerState
from learner.weights import WeightStore
from protos.trial import Outcome, Source
from tests.e2e.actor_rig import spooled
from tests.e2e.system_rig import OFFLINE_TRIALS, TRAINER, System

_SAID = re.compile(r"event=trial_ended number=\d+ trial=(\S+) outcome=(?:success|failure) ")


@dataclass(frozen=True, kw_only=True)
class Score:
    """What became of every trial that began."""

    complete: int
    aborted: int
    lost: int
    """Trials that began, or that anybody called finished, and that are not in the ledger."""
    doubled: int
    """Ledger rows that hold the same run of the robot as another one."""
    mismatched: int
    """Problems that `offworld trials verify` found."""

    def __str__(self) -> str:
        return (
            f"{self.complete} trials complete, {self.aborted} aborted, {self.lost} lost, "
            f"{self.doubled} doubled, {self.mismatched} mismatched"
        )


def score(system: System, num_problems: int) -> Score:
    """Compares what the loop, the ring, the spool and the ledger say.

    Args:
        system: After its end.
        num_problems: How many `offworld trials verify` found.
    """
    rows = system.view.rows(source=Source.ONLINE)
    said = set(_SAID.findall(system.actor.log_text()))
    said |= {trial.trial_id for trial in spooled(system.config.spool)}
    runs = {_run_of(row) for row in rows}
    aborted = sum(row.outcome is Outcome.ABORTED for row in rows)
    return Score(
        complete=len(rows) - aborted,
        aborted=aborted,
        lost=max(system.ring.num_begun - len(runs), len(said - {row.trial_id for row in rows})),
        doubled=len(rows) - len(runs),
        mismatched=num_problems,
    )


def check_learner(system: System, version_at_last_kill: int) -> None:
    """Asserts that the trainer learned from what is complete, exactly, and never fell back."""
    view = system.view
    rows = view.rows(source=Source.ONLINE)
    trainable = [row.trial_id for row in rows if row.outcome is not Outcome.ABORTED]
    status = view.status()
    assert status is not None
    assert status.state is TrainerState.STOPPED
    assert (status.num_offline_trials, status.num_online_trials) == (OFFLINE_TRIALS, len(trainable))
    assert (status.updates_owed, status.num_unreadable_trials) == (0, 0)
    per_trial = TRAINER.updates_per_trial
    assert per_trial is not None
    assert status.num_updates == TRAINER.num_pretrain_updates + per_trial * len(trainable)
    assert status.settled_seq == status.ledger_seq == view.last_seq()

    checkpoint = CheckpointStore(view.root / "checkpoints").load_latest()
    assert checkpoint is not None
    assert checkpoint.num_updates == status.num_updates
    replay = checkpoint.parts["replay"]
    assert [trial_id for trial_id, *_ in replay["online"]["trials"]] == trainable
    assert len(replay["offline"]["trials"]) == OFFLINE_TRIALS

    manifest = WeightStore(view.root / "weights").latest()
    assert manifest is not None
    assert manifest.version > version_at_last_kill
    assert manifest.train_step == status.num_updates

    seen = [s for s in system.watch.seen if s.state is not TrainerState.LOADING]
    assert TrainerState.FAILED not in {s.state for s in seen}
    for kill in system.kills:
        after = [s.num_updates for s in seen if s.unix_ns > kill.unix_ns]
        assert min(after) >= kill.num_updates_saved, kill


def _run_of(row: TrialRow) -> tuple[str, int]:
    """What no two trials of an actor share, whatever ids they have: when they began."""
    provenance = json.loads(row.header)["provenance"]
    return provenance["incarnation"], provenance["started_unix_ns"]
