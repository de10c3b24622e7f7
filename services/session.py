"""The actor's standing with the learner: Hello, then a heartbeat a second, for ever.

The one thread that says whether the link is up. It says so once a change, not once a try. A lease
that was lost is asked for again; a learner that refuses us at the start is an error for a person,
one that refuses us later (it was restarted with another configuration) leaves us recording.

An actor id belongs to one process. One that finds another under its id at the start waits until
that one's lease would have lapsed, in case it is dead; one that had the id and finds it taken has
been replaced. Either then ends: two that take turns would deliver the trials of two robots as one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from learner.status import TrainerState
from protos import learner_pb2 as pb
from protos.trial import SpecMismatch
from services.backoff import Backoff
from services.client import (
    AccessDenied,
    ActorIdentity,
    ActorIdTaken,
    LearnerClient,
    LearnerRefused,
    LearnerUnavailable,
)
from services.leases import LeaseLost
from services.records import LoopLink
from services.spool import Spool
from services.worker import Worker

logger = logging.getLogger(__name__)

HEARTBEAT_PERIOD_S = 1.0
_REFUSED_PERIOD_S = 5.0
_MISSES_ALLOWED = 1
_LATE_CALLS_S = 1.0
"""So long after its end a process may still be heard: a call of it was under way."""


class Session:
    """Keeps a lease, and tells who asks for it.

    Args:
        client: The learner.
        who: The actor.
        link: Told whether the learner answers and how far it has trained; asked for the loop's
            state.
        spool: Counted for the heartbeat.
        on_hello: Called with each accepted Hello, before anybody gets its lease.
        backoff: Paces the tries.
    """

    def __init__(
        self,
        client: LearnerClient,
        who: ActorIdentity,
        link: LoopLink,
        spool: Spool,
        *,
        on_hello: Callable[[pb.HelloReply], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._who = who
        self._link = link
        self._spool = spool
        self._on_hello = on_hello
        self._backoff = backoff or Backoff()
        self._changed = threading.Condition()
        self._lease_token: int | None = None
        self._was_accepted = False
        self._taken_since_s: float | None = None
        self._last_words = ""
        self.worker = Worker("session", self._run)
        self.refusal: str | None = None
        """Why the learner will not have us; set once, when trying again is of no use."""

    def lease(self, timeout_s: float) -> int | None:
        """Waits for a lease and returns its token; None if there is none within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._lease_token is not None or self.worker.stopping.is_set(), timeout_s
            )
            return self._lease_token

    def say_goodbye(self) -> None:
        """Gives the lease back, so that the next process need not wait for it to lapse.

        Whoever waits for a lease waits no longer, if the worker was told to stop before.
        """
        with self._changed:
            self._changed.notify_all()
        lease_token = self.lease(0.0)
        if lease_token is not None:
            with contextlib.suppress(LearnerUnavailable, LeaseLost):
                self._client.heartbeat(
                    lease_token, self._link.status(), self._spool.counts(), is_leaving=True
                )

    def lease_lost(self, lease_token: int) -> None:
        """Says that the learner did not accept that token any more."""
        with self._changed:
            if self._lease_token == lease_token:
                self._lease_token = None

    def _run(self) -> None:
        while not self.worker.stopping.is_set():
            try:
                reply = self._client.hello(self._who)
            except ActorIdTaken as error:
                self.refusal = self._why_given_up(error)
                if self.refusal is not None:
                    return
                self.worker.stopping.wait(self._backoff.failed())
                continue
            except (SpecMismatch, LearnerRefused, AccessDenied) as error:
                self._say_down(error)
                if not self._was_accepted:
                    self.refusal = str(error)
                    return
                self.worker.stopping.wait(_REFUSED_PERIOD_S)
                continue
            except LearnerUnavailable as error:
                self._say_down(error)
                self.worker.stopping.wait(self._backoff.failed())
                continue
            self._was_accepted = True
            self._backoff.worked()
            self._on_hello(reply)
            with self._changed:
                self._lease_token = reply.lease_token
                self._changed.notify_all()
            self._say_up(reply)
            self._keep(reply.lease_token)

    def _why_given_up(self, error: ActorIdTaken) -> str | None:
        """Returns why another process has our actor id for good; None while it may be dead."""
        self._link.announce_link(is_up=False)
        who = f"actor {self._who.actor_id}"
        kept = f"{self._spool.counts().num_ready} trials are kept in {self._spool.config.root}"
        if self._was_accepted:
            return f"{who} was taken over by another process: {error}; {kept}"
        now_s, wait_s = time.monotonic(), error.lease_ttl_s + _LATE_CALLS_S
        if self._taken_since_s is None:
            self._taken_since_s = now_s
            logger.warning("event=actor_id_taken up_to_s=%.1f reason=%s; waiting", wait_s, error)
        # Heard within its lease, and first met before it began: it has spoken since.
        if now_s - self._taken_since_s <= wait_s:
            return None
        return f"{who} is in use: {error}, or choose another actor_id; {kept}"

    def _keep(self, lease_token: int) -> None:
        """Sends heartbeats until the lease is lost or the learner is silent."""
        num_missed = 0
        while not self.worker.stopping.wait(HEARTBEAT_PERIOD_S):
            if self.lease(0.0) != lease_token:
                return
            try:
                reply = self._client.heartbeat(
                    lease_token, self._link.status(), self._spool.counts()
                )
                num_missed = 0
                self._link.announce_trained(
                    version=reply.latest_weights.version, ledger_seq=reply.trained_ledger_seq
                )
                has_failed = reply.trainer.state == TrainerState.FAILED
                self._link.announce_trainer(has_failed=has_failed)
            except LeaseLost as error:
                logger.warning("event=lease_lost actor=%s reason=%s", self._who.actor_id, error)
                self.lease_lost(lease_token)
                return
            except LearnerUnavailable as error:
                num_missed += 1
                if num_missed > _MISSES_ALLOWED:
                    self._say_down(error)
                    self.lease_lost(lease_token)
                    return

    def _say_up(self, reply: pb.HelloReply) -> None:
        self._link.announce_link(is_up=True)
        logger.info(
            "event=link_up learner=%s run=%s software=%s waiting_trials=%d",
            self._client.address,
            reply.run_id,
            reply.software or "unknown",
            self._spool.counts().num_ready,
        )
        self._last_words = ""

    def _say_down(self, error: Exception) -> None:
        if self.worker.stopping.is_set():
            return
        self._link.announce_link(is_up=False)
        kind = type(error).__name__
        if kind != self._last_words:
            logger.warning(
                "event=link_down learner=%s trials_kept=%d reason=%s; trials stay on disk here and "
                "are delivered when it answers",
                self._client.address,
                self._spool.counts().num_ready,
                error,
            )
        self._last_words = kind
