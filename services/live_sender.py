"""Tells viewers what the robot does while it does it; best effort, the oldest is dropped first."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from protos import learner_pb2 as pb
from services.client import LearnerClient, LearnerUnavailable
from services.leases import LeaseLost
from services.records import Record, StepRecord, TrialBegin
from services.session import Session
from services.trial_summary import TrialSummary
from services.worker import Worker

CAPACITY = 1024
_BATCH = 256
_PERIOD_S = 0.2


class LiveSender:
    """One thread that sends events; `add` never waits.

    Args:
        client: The learner.
        session: Gives the lease.
        unix_ns: Wall clock.
    """

    def __init__(
        self,
        client: LearnerClient,
        session: Session,
        *,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client = client
        self._session = session
        self._unix_ns = unix_ns
        self._mutex = threading.Lock()
        self._events: deque[pb.LiveEvent] = deque()
        self._num_dropped = 0
        self._trial_id = ""
        self._summary = TrialSummary()
        self.worker = Worker("live", self._run)

    def add_record(self, record: Record) -> None:
        """Queues the event of one record."""
        event = pb.LiveEvent(unix_ns=self._unix_ns(), plan_value=math.nan)
        if isinstance(record, TrialBegin):
            self._trial_id, self._summary = record.trial_id, TrialSummary()
            event.kind = pb.LIVE_KIND_TRIAL_BEGUN
            event.weights_version = record.provenance.weights_version
        elif isinstance(record, StepRecord):
            event.kind = pb.LIVE_KIND_STEP
            event.step_index = record.index
            _describe_step(event, record.columns)
            self._summary.add(record.columns)
        else:
            event.kind = pb.LIVE_KIND_TRIAL_ENDED
            event.outcome, event.reward = record.outcome.value, self._summary.total_reward
            event.step_index = self._summary.num_steps
            event.weights_version = self._summary.weights_version
            event.text = f"{record.outcome.value} {self._summary} {record.abort_reason}"[:1000]
        event.trial_id = self._trial_id
        self.add(event)

    def add_fault(self, text: str) -> None:
        """Queues the news of a fault."""
        self.add(pb.LiveEvent(unix_ns=self._unix_ns(), kind=pb.LIVE_KIND_FAULT, text=text[:1000]))

    def add(self, event: pb.LiveEvent) -> None:
        """Queues an event; the oldest makes way when there are too many."""
        with self._mutex:
            if len(self._events) >= CAPACITY:
                self._events.popleft()
                self._num_dropped += 1
            self._events.append(event)

    def _run(self) -> None:
        while not self.worker.stopping.wait(_PERIOD_S):
            with self._mutex:
                batch = [self._events[i] for i in range(min(_BATCH, len(self._events)))]
                num_dropped = self._num_dropped
            lease_token = self._session.lease(0.0) if batch else None
            if lease_token is None:
                continue
            try:
                self._client.put_log(lease_token, batch, num_dropped)
            except LeaseLost:
                self._session.lease_lost(lease_token)
                continue
            except LearnerUnavailable:
                continue
            self._sent(batch, num_dropped)

    def _sent(self, batch: list[pb.LiveEvent], num_dropped: int) -> None:
        with self._mutex:
            self._num_dropped -= num_dropped
            while batch and self._events and self._events[0] is not batch[0]:
                batch.pop(0)  # made way meanwhile
            for _ in batch:
                self._events.popleft()


def _describe_step(event: pb.LiveEvent, columns: Any) -> None:
    event.reward = float(columns["reward"])
    event.plan_value = float(columns["plan_value"])
    event.plan_uncertainty = float(columns["plan_uncertainty"])
    event.weights_version = int(columns["weights_version"])
    event.is_deadline_missed = bool(columns["deadline_missed"])
