"""The recorder: takes records from the control loop to the disk, and from there to the learner.

`python -m services.recorder RUN.toml`, started by the actor's supervisor. The main thread only
moves records from the ring to the spool; session, uploader, weights and live events have a thread
each. Without a learner everything is kept and said so; the control loop notices none of it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from learner.durable import StoreLocked
from protos import learner_pb2 as pb
from protos.trial import RobotSpec
from services.actor_config import ActorRun
from services.client import ActorIdentity, LearnerClient
from services.credentials import ClientSecurity
from services.live_sender import LiveSender
from services.logs import configure_logging
from services.process import CannotStart, end_with_parent, run_to_exit_code, stop_on_signals
from services.records import LOST_END, LoopLink, Record, RecordSource, TrialBegin
from services.ring import RingReader
from services.ring_memory import Ring, RingUnusable
from services.session import Session
from services.spool import Spool, SpoolConfig
from services.spool_db import SpoolCorrupt, SpoolFull, SpoolVersionMismatch
from services.uploader import Uploader
from services.weights_fetcher import WeightsFetcher

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_LOOK_S = 1.0
_FULL_RETRY_S = 0.5
_RESUME_S = 5.0
_GARBAGE_S = 60.0
_JOIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What a recorder works for."""

    learner: str
    """HOST:PORT."""
    security: ClientSecurity = ClientSecurity()
    """What the learner is shown, and how it is known."""
    actor_id: str
    incarnation: str
    is_sim: bool
    spool: SpoolConfig


class LoopSide(RecordSource, LoopLink, Protocol):
    """The control loop as the recorder sees it."""


class Recorder:
    """Everything between the loop and the learner.

    Args:
        config: The settings.
        spec: The robot.
        loop: Gives records, and is told what comes of them.
        now_s: Monotonic clock.
    """

    def __init__(
        self,
        config: RecorderConfig,
        spec: RobotSpec,
        loop: LoopSide,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._spec = spec
        self._now_s = now_s
        self.spool = Spool(config.spool)
        self._client = LearnerClient(config.learner, config.security)
        who = ActorIdentity(
            actor_id=config.actor_id,
            incarnation=config.incarnation,
            is_sim=config.is_sim,
            spec=spec,
        )
        self._session = Session(self._client, who, loop, self.spool, on_hello=_note_hello)
        self._uploader = Uploader(
            self._client, self._session, self.spool, loop, on_settled=self._announce_unsent
        )
        self._unsent_mutex = threading.Lock()
        self._live = LiveSender(self._client, self._session)
        self._weights = WeightsFetcher(
            config.spool.root / "weights", self._client, loop, spec_digest=spec.digest()
        )
        self._workers = (
            self._session.worker,
            self._uploader.worker,
            self._weights.worker,
            self._live.worker,
        )
        self._resume_until_s: float | None = None
        self._has_room: bool | None = None
        self._last_fault = ""
        self._look_at_s = self._collect_at_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Works until `stop`; what the loop has handed over by then is on disk.

        Raises:
            CannotStart: The learner refuses this actor.
            SpoolCorrupt: The spool cannot be used any more.
        """
        try:
            self._begin()
            while not stop.is_set():
                self._check()
                self._take(self._loop.poll(_POLL_S), stop)
            while records := self._loop.poll(0.0):
                self._take(records, stop)
        finally:
            self._end()

    def _begin(self) -> None:
        if self.spool.open_trial_id is not None:
            self._resume_until_s = self._now_s() + _RESUME_S
        self._announce_unsent()
        if (settled := self.spool.last_settled()) is not None:
            self._loop.announce_acked(trial_id=settled[0], ledger_seq=settled[1])
        kept = self._weights.announce_kept()
        logger.info(
            "event=recording spool=%s waiting_trials=%d weights=%d",
            self.spool.config.root,
            self.spool.counts().num_ready,
            kept,
        )
        for worker in self._workers:
            worker.start()

    def _take(self, records: Sequence[Record], stop: threading.Event) -> None:
        """Writes records to the spool; does not return before they are there."""
        if not records:
            return
        is_warned = False
        while True:
            try:
                self.spool.add(records)
                break
            except SpoolFull as error:
                if not is_warned:
                    logger.error("event=spool_full reason=%s; records wait in memory", error)
                is_warned = True
                self._announce_room(has_room=False)
                if stop.wait(_FULL_RETRY_S):
                    raise
        for record in records:
            self._live.add_record(record)
            if isinstance(record, TrialBegin):
                self._resume_until_s = None
        self._announce_unsent()
        self._loop.commit()
        self._uploader.notify()

    def _check(self) -> None:
        """Looks, about once a second, whether all is well."""
        now_s = self._now_s()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + _LOOK_S
        for worker in self._workers:
            worker.raise_if_failed()
        fault = self._loop.status().fault
        if fault and fault != self._last_fault:
            self._live.add_fault(fault)
        self._last_fault = fault
        if self._session.refusal is not None:
            raise CannotStart(f"the learner refuses this actor: {self._session.refusal}")
        try:
            if self._resume_until_s is not None and now_s >= self._resume_until_s:
                self._give_up_open_trial()
            if now_s >= self._collect_at_s or self._has_room is False:
                self._collect_at_s = now_s + _GARBAGE_S
                self.spool.collect_garbage(is_pressing=self._has_room is False)
            self.spool.require_room(self._spec)
            self._announce_room(has_room=True)
        except SpoolFull as error:
            if self._has_room is not False:
                logger.error("event=spool_full reason=%s; no trial begins", error)
            self._announce_room(has_room=False)

    def _give_up_open_trial(self) -> None:
        """Ends the trial of a process that died, when its loop did not go on with it."""
        aborted = self.spool.abort_open(LOST_END)
        self._resume_until_s = None
        logger.warning("event=trial_aborted trial=%s reason=%s", aborted, LOST_END)
        self._announce_unsent()
        self._uploader.notify()

    def _announce_unsent(self) -> None:
        with self._unsent_mutex:  # else an older count could be said after a newer one
            self._loop.announce_unsent(self.spool.counts().num_ready)

    def _announce_room(self, *, has_room: bool) -> None:
        if has_room and self._has_room is False:
            logger.info("event=spool_has_room")
        self._has_room = has_room
        self._loop.announce_room(has_room=has_room)

    def _end(self) -> None:
        for worker in self._workers:
            worker.stopping.set()
        self._session.say_goodbye()
        self._client.close()
        self._uploader.notify()
        late = [worker for worker in self._workers if not worker.join(_JOIN_S)]
        if not late:  # else the end of the process closes it
            logger.info("event=stopped waiting_trials=%d", self.spool.counts().num_ready)
            self.spool.close()


def _note_hello(reply: pb.HelloReply) -> None:
    ahead_s = (time.time_ns() - reply.learner_unix_ns) / 1e9
    if abs(ahead_s) > 2.0:
        logger.warning("event=clocks_differ actor_ahead_s=%.1f; set the clock of one", ahead_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recorder that a run file describes; returns the exit code."""
    (path,) = sys.argv[1:] if argv is None else argv
    configure_logging("recorder")
    run = ActorRun.read(Path(path))
    stop = threading.Event()
    stop_on_signals(stop)
    end_with_parent(run.parent_pid)
    return run_to_exit_code(lambda: _run(run, stop))


def _run(run: ActorRun, stop: threading.Event) -> None:
    config = RecorderConfig(
        learner=run.config.learner,
        security=run.config.security,
        actor_id=run.config.actor_id,
        incarnation=run.incarnation,
        is_sim=run.config.is_simulated,
        spool=SpoolConfig(root=run.config.spool, reserve_bytes=run.config.reserve_bytes),
    )
    try:
        ring = Ring(run.ring)
        recorder = Recorder(config, ring.spec, RingReader(ring))
    except (RingUnusable, SpoolCorrupt, SpoolVersionMismatch, StoreLocked) as error:
        raise CannotStart(str(error)) from error
    recorder.run(stop)


if __name__ == "__main__":
    sys.exit(main())
