"""Delivers the trials of the spool, oldest first, until the learner has acknowledged each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from protos import codec
from protos import learner_pb2 as pb
from protos.trial import TrialRejected
from services.backoff import Backoff
from services.client import LearnerClient, LearnerUnavailable
from services.leases import LeaseLost
from services.records import LoopLink
from services.session import Session
from services.spool import Spool
from services.spool_db import SpoolCorrupt, SpoolFull
from services.worker import Worker

logger = logging.getLogger(__name__)

REFUSALS_BELIEVED = 3
"""So often a trial must be refused: once may have been damage on the way."""
_ROUNDS = 3
_BATCH = 64
_LOOK_S = 1.0


class Uploader:
    """One thread that delivers. It asks first, then sends only what the learner lacks.

    Args:
        client: The learner.
        session: Gives the lease.
        spool: Where the trials are.
        link: Told what was acknowledged.
        on_settled: Called when there is one trial less to deliver.
        backoff: Paces the tries.
    """

    def __init__(
        self,
        client: LearnerClient,
        session: Session,
        spool: Spool,
        link: LoopLink,
        *,
        on_settled: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._session = session
        self._spool = spool
        self._link = link
        self._on_settled = on_settled
        self._backoff = backoff or Backoff()
        self._work = threading.Event()
        self._refusals: dict[str, int] = {}
        self._last_words = ""
        self.worker = Worker("uploader", self._run)

    def notify(self) -> None:
        """Says that a trial is ready."""
        self._work.set()

    def _run(self) -> None:
        while not self.worker.stopping.is_set():
            self._work.clear()
            trial_ids = self._spool.ready(limit=_BATCH)
            lease_token = self._session.lease(_LOOK_S) if trial_ids else None
            if lease_token is None:
                if not trial_ids:
                    self._work.wait(_LOOK_S)
                continue
            try:
                for holding in self._client.query_trials(trial_ids):
                    if self.worker.stopping.is_set():
                        return
                    self._deliver(lease_token, holding)
                self._backoff.worked()
                self._last_words = ""
            except LeaseLost:
                self._session.lease_lost(lease_token)
            except (LearnerUnavailable, SpoolFull) as error:
                self._say(error)
                self.worker.stopping.wait(self._backoff.failed())

    def _deliver(self, lease_token: int, holding: pb.TrialHolding) -> None:
        trial_id = holding.trial_id
        try:
            trial = codec.encode_trial(self._spool.load(trial_id))
        except (SpoolCorrupt, TrialRejected) as error:
            logger.error("event=trial_damaged trial=%s reason=%s", trial_id, error)
            self._spool.mark_rejected(trial_id, f"damaged on the actor's disk: {error}")
            self._announce(trial_id, 0)
            return
        if holding.state == pb.TRIAL_STATE_STORED and holding.trial_digest == trial.trial_digest:
            self._acked(trial_id, holding.ledger_seq)
            return
        try:
            self._acked(trial_id, self._upload(lease_token, holding, trial))
        except TrialRejected as error:
            self._refused(trial_id, str(error))

    def _upload(self, lease_token: int, holding: pb.TrialHolding, trial: codec.EncodedTrial) -> int:
        """Sends the chunks that are missing and commits; returns the row of the ledger."""
        is_same = holding.payload_sha256 == trial.payload_sha256
        missing = _missing(trial, holding.received if is_same else [])
        reason = ""
        for _ in range(_ROUNDS):
            for chunk in codec.cut_chunks(trial.payload, wanted=missing):
                if self.worker.stopping.is_set():
                    raise LearnerUnavailable("stopped during an upload")
                self._client.put_chunk(lease_token, holding.trial_id, trial, chunk)
            reply = self._client.commit_trial(lease_token, holding.trial_id, trial)
            if reply.verdict in (pb.COMMIT_VERDICT_STORED, pb.COMMIT_VERDICT_DUPLICATE):
                return reply.ledger_seq
            if reply.verdict != pb.COMMIT_VERDICT_INCOMPLETE:
                raise LearnerUnavailable(f"CommitTrial: verdict {reply.verdict} is not known here")
            missing, reason = _missing(trial, reply.received), reply.reason
        raise LearnerUnavailable(f"CommitTrial: {reason}, {_ROUNDS} times in a row")

    def _acked(self, trial_id: str, ledger_seq: int) -> None:
        self._spool.mark_acked(trial_id, ledger_seq)
        self._refusals.pop(trial_id, None)
        logger.info("event=trial_acked trial=%s ledger_seq=%d", trial_id, ledger_seq)
        self._announce(trial_id, ledger_seq)

    def _refused(self, trial_id: str, reason: str) -> None:
        self._refusals[trial_id] = self._refusals.get(trial_id, 0) + 1
        if self._refusals[trial_id] < REFUSALS_BELIEVED:
            return
        logger.error("event=trial_refused trial=%s reason=%s; kept on disk here", trial_id, reason)
        self._spool.mark_rejected(trial_id, reason)
        del self._refusals[trial_id]
        self._announce(trial_id, 0)

    def _announce(self, trial_id: str, ledger_seq: int) -> None:
        self._link.announce_acked(trial_id=trial_id, ledger_seq=ledger_seq)
        self._on_settled()

    def _say(self, error: Exception) -> None:
        words = str(error).split(":")[0]
        if words != self._last_words and not self.worker.stopping.is_set():
            logger.warning("event=upload_waits reason=%s", error)
        self._last_words = words


def _missing(trial: codec.EncodedTrial, received: Iterable[pb.ChunkRange]) -> list[int]:
    missing = set(range(codec.num_chunks(len(trial.payload))))
    for part in received:
        missing -= {i for i in missing if part.first <= i < part.first + part.count}
    return sorted(missing)
