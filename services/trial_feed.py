"""Trials as they come: from a learner over the network, or from a store on this machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from learner.store import TrialStore
from protos import learner_pb2 as pb
from services.client import LearnerClient
from services.credentials import ClientSecurity
from services.trial_log import TrialLine

_LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class LiveStep:
    """Something that happens in a trial right now; such events may be missing."""

    kind: str
    """`begun`, `step`, `ended`, `fault` or `note`."""
    actor: str
    trial_id: str
    step: int
    reward: float
    value: float
    uncertainty: float
    weights_version: int
    is_late: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Live events that were overwritten before they could be read."""

    num_events: int


Event = TrialLine | LiveStep | Gap

_KINDS = {
    pb.LIVE_KIND_TRIAL_BEGUN: "begun",
    pb.LIVE_KIND_STEP: "step",
    pb.LIVE_KIND_TRIAL_ENDED: "ended",
    pb.LIVE_KIND_FAULT: "fault",
    pb.LIVE_KIND_NOTE: "note",
}


def committed_trials(
    learner: str, after: int = 0, security: ClientSecurity | None = None
) -> Iterator[TrialLine]:
    """Yields the trials committed after number `after`; LearnerUnavailable if nobody answers."""
    with contextlib.closing(LearnerClient(learner, security)) as client:
        while (reply := client.list_trials(after)).trials:
            yield from (TrialLine.from_message(trial) for trial in reply.trials)
            after = reply.last_ledger_seq


def follow_learner(
    learner: str, after: int, *, is_following: bool, security: ClientSecurity | None = None
) -> Iterator[Event]:
    """Yields trials committed after `after`, then what happens, across restarts of the learner.

    Raises:
        LearnerUnavailable: It does not answer now; once it did, its absence is waited out.
    """
    with contextlib.closing(LearnerClient(learner, security)) as client:
        client.status()
        cursor = pb.LogCursor(ledger_seq=after)
        for reply in client.tail_log(cursor, is_following=is_following):
            kind = reply.WhichOneof("event")
            if kind == "trial":
                yield TrialLine.from_message(reply.trial)
            elif kind == "live":
                yield _live(reply.live)
            elif kind == "dropped":
                yield Gap(num_events=reply.dropped.num_events)


def follow_store(
    root: Path, after: int, *, is_following: bool, sleep_s: Callable[[float], None] = time.sleep
) -> Iterator[Event]:
    """Yields trials committed to a store after `after`; StoreNotFound if there is none."""
    store = TrialStore.open(root, read_only=True)
    with contextlib.closing(store):
        while True:
            for row in store.iter_rows(since=after):
                line = TrialLine.from_row(row)
                after = line.ledger_seq
                yield line
            if not is_following:
                return
            sleep_s(_LOOK_S)


def _live(event: pb.LiveEvent) -> LiveStep:
    return LiveStep(
        kind=_KINDS.get(event.kind, "unknown"),
        actor=event.actor_id,
        trial_id=event.trial_id,
        step=event.step_index,
        reward=event.reward,
        value=event.plan_value,
        uncertainty=event.plan_uncertainty,
        weights_version=event.weights_version,
        is_late=event.is_deadline_missed,
        text=event.text or event.outcome,
    )
