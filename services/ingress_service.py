"""What the learner answers to each call of the protocol.

Blocking work runs in an executor. Only leases and live events are in memory, and losing those
costs a new Hello.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from grpc import StatusCode

from learner.store import TrialStore
from learner.weights import WeightsCorrupt, WeightStore
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import RobotSpec
from services.address import DEFAULT_ADDRESS
from services.credentials import ServerSecurity
from services.delivery import Delivery, DeliveryConfig
from services.feed import Feed, LiveEvents
from services.handshake import MAX_LINE_CHARS, actor_status, greet
from services.leases import ActorReport, LeaseLost, Leases
from services.process import software_version
from services.pulse import Pulse, trained_through, wait_for_any, weights_ref
from services.refusals import invalid
from services.server import Refused

logger = logging.getLogger(__name__)

T = TypeVar("T")
MAX_QUERY_TRIALS = 256
MAX_LIST_TRIALS = 1000
MAX_LOG_EVENTS = 256
MAX_WAIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class IngressConfig:
    """Where the ingress listens and how much it takes."""

    store: Path
    """Folder of the store."""
    listen: str = DEFAULT_ADDRESS
    """HOST:PORT; port 0 for any free one."""
    security: ServerSecurity = ServerSecurity()
    """What callers must show, and TLS."""
    lease_ttl_s: float = 5.0
    """Silence after which another process may take an actor id over."""
    max_readers: int = 64
    """Log readers and waiters for weights at once, each."""
    live_events: int = 4096
    """Live events kept for readers that are behind."""
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)

    def __post_init__(self) -> None:
        if not (self.lease_ttl_s > 0 and self.max_readers > 0 and self.live_events > 0):
            raise ValueError("lease_ttl_s, max_readers and live_events must be positive")


class Ingress:
    """Answers the calls of `offworld.v1.Learner`. Belongs to one event loop.

    Args:
        config: The limits.
        store: Open for writing.
        spec: What every actor must agree with.
        policy_config_json: Handed to actors as it is.
        run_id: Names the store.
        executor: Runs what blocks.
        unix_ns: Wall clock.
        now_s: Monotonic clock.
    """

    def __init__(
        self,
        config: IngressConfig,
        store: TrialStore,
        spec: RobotSpec,
        *,
        policy_config_json: str,
        run_id: str,
        executor: Executor,
        unix_ns: Callable[[], int] = time.time_ns,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._store = store
        self._spec = spec
        self._policy_config_json = policy_config_json
        self._run_id = run_id
        self._executor = executor
        self._unix_ns = unix_ns
        self._now_s = now_s
        self._started_s = now_s()
        self._leases = Leases(ttl_s=config.lease_ttl_s, now_s=now_s)
        self._delivery = Delivery(config.delivery, store, spec)
        self._weights = WeightStore(store.root / "weights")
        self._live = LiveEvents(config.live_events)
        self.pulse = Pulse(store.root, store.ledger, executor, unix_ns=unix_ns)
        self._feed = Feed(store.ledger, self._live, self.pulse, executor)
        self._num_tails = 0
        self._num_waits = 0

    async def _blocking(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    # ---- the handshake and the lease ------------------------------------------------------------

    async def hello(self, request: pb.HelloRequest) -> pb.HelloReply:
        """Compares versions and specs; grants a lease when they agree."""
        reply = greet(request, self._spec, self._leases, self._unix_ns)
        reply.run_id = self._run_id
        if reply.verdict == pb.HELLO_VERDICT_OK:
            reply.policy_config_json = self._policy_config_json
            reply.limits.CopyFrom(self._limits())
            if (latest := weights_ref(self.pulse.beat.weights)) is not None:
                reply.latest_weights.CopyFrom(latest)
        return reply

    def _limits(self) -> pb.Limits:
        return pb.Limits(
            max_chunk_bytes=codec.MAX_CHUNK_BYTES,
            max_trial_bytes=self._config.delivery.max_trial_bytes,
            max_query_trials=MAX_QUERY_TRIALS,
            max_log_events=MAX_LOG_EVENTS,
        )

    async def heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatReply:
        """Renews the lease and says how training is going."""
        beat = self.pulse.beat
        reply = pb.HeartbeatReply(
            is_lease_valid=True,
            latest_weights=weights_ref(beat.weights),
            trainer=beat.trainer,
            trained_ledger_seq=trained_through(beat),
            ledger_seq=beat.ledger_seq,
        )
        report = ActorReport(
            loop_state=request.loop_state[:64],
            weights_version=request.weights_version,
            spool_trials=request.spool_trials,
            spool_bytes=request.spool_bytes,
            rejected_trials=request.rejected_trials,
            fault=request.fault[:MAX_LINE_CHARS],
        )
        try:
            self._leases.renew(request.lease_token, report)
            if request.is_leaving:
                self._leases.release(request.lease_token)
        except LeaseLost as error:
            reply.is_lease_valid, reply.message = False, str(error)
        return reply

    # ---- trials ---------------------------------------------------------------------------------

    async def query_trials(self, request: pb.QueryTrialsRequest) -> pb.QueryTrialsReply:
        """Says which trials are held durably, and how much of the others is here."""
        ids = list(request.trial_ids)
        if len(ids) > MAX_QUERY_TRIALS:
            raise invalid(f"{len(ids)} trial ids; at most {MAX_QUERY_TRIALS} are answered at once")
        holdings = await self._blocking(lambda: [self._delivery.holding(i) for i in ids])
        return pb.QueryTrialsReply(holdings=holdings)

    async def put_chunk(self, request: pb.PutChunkRequest) -> pb.PutChunkReply:
        """Stages one chunk on disk."""
        self._leases.renew(request.lease_token)
        return pb.PutChunkReply(
            num_received=await self._blocking(self._delivery.put_chunk, request)
        )

    async def commit_trial(self, request: pb.CommitTrialRequest) -> pb.CommitTrialReply:
        """Commits a staged trial; answers STORED only when it is durable."""
        lease = self._leases.renew(request.lease_token)
        reply = await self._blocking(self._delivery.commit, request)
        if reply.verdict == pb.COMMIT_VERDICT_STORED:
            logger.info(
                "event=trial_stored trial=%s ledger_seq=%d actor=%s bytes=%d",
                request.trial_id,
                reply.ledger_seq,
                lease.actor_id,
                request.manifest.payload_bytes,
            )
        return reply

    async def list_trials(self, request: pb.ListTrialsRequest) -> pb.ListTrialsReply:
        """Returns one page of the ledger."""
        limit = min(request.limit or MAX_LIST_TRIALS, MAX_LIST_TRIALS)
        trials = await self._feed.trials_after(request.after_ledger_seq, limit)
        last = trials[-1].ledger_seq if trials else request.after_ledger_seq
        return pb.ListTrialsReply(trials=trials, last_ledger_seq=last)

    # ---- weights --------------------------------------------------------------------------------

    async def get_weights_manifest(
        self, request: pb.GetWeightsManifestRequest
    ) -> pb.GetWeightsManifestReply:
        """Waits for a version newer than the caller's."""
        if self._num_waits >= self._config.max_readers:
            raise Refused(StatusCode.RESOURCE_EXHAUSTED, "too many callers wait for weights")
        wait_s = max(0.0, min(request.wait_s, MAX_WAIT_S))  # in this order NaN becomes 0
        until = self._now_s() + wait_s
        self._num_waits += 1
        try:
            while True:
                news, manifest = self.pulse.changed.next, self.pulse.beat.weights
                if manifest is not None and manifest.version > request.after_version:
                    return pb.GetWeightsManifestReply(
                        weights=weights_ref(manifest),
                        manifest_json=manifest.to_json(),
                        run_id=self._run_id,
                    )
                if (left_s := until - self._now_s()) <= 0 or self.pulse.is_closing:
                    return pb.GetWeightsManifestReply(run_id=self._run_id)
                await wait_for_any([news], left_s)
        finally:
            self._num_waits -= 1

    async def get_weights_chunk(
        self, request: pb.GetWeightsChunkRequest
    ) -> pb.GetWeightsChunkReply:
        """Reads a piece of one version's file."""
        if not 1 <= request.length <= codec.MAX_CHUNK_BYTES or request.offset >= 1 << 62:
            raise invalid(f"length must be 1 to {codec.MAX_CHUNK_BYTES}")
        try:
            data = await self._blocking(
                self._weights.read, request.version, request.offset, request.length
            )
        except WeightsCorrupt as error:
            raise Refused(StatusCode.NOT_FOUND, str(error)) from error
        return pb.GetWeightsChunkReply(offset=request.offset, data=data, crc32=zlib.crc32(data))

    # ---- logs and status ------------------------------------------------------------------------

    async def put_log(self, request: pb.PutLogRequest) -> pb.PutLogReply:
        """Passes live events on to whoever reads."""
        lease = self._leases.renew(request.lease_token)
        num_events = len(request.events)
        if num_events > MAX_LOG_EVENTS:
            raise invalid(f"{num_events} events; at most {MAX_LOG_EVENTS} are taken")
        for event in request.events:
            event.actor_id = lease.actor_id
            event.text, event.outcome = event.text[:MAX_LINE_CHARS], event.outcome[:64]
            event.trial_id = event.trial_id[:64]
            event.DiscardUnknownFields()  # kept otherwise, and of any length
        if request.num_dropped:
            text = f"{request.num_dropped} events were dropped on the actor"
            request.events.add(
                actor_id=lease.actor_id, kind=pb.LIVE_KIND_NOTE, text=text, unix_ns=self._unix_ns()
            )
        self._live.add(request.events)
        return pb.PutLogReply(num_accepted=num_events)

    async def tail_log(self, request: pb.TailLogRequest) -> AsyncIterator[pb.TailLogReply]:
        """Streams committed trials and live events."""
        if self._num_tails >= self._config.max_readers:
            raise Refused(StatusCode.RESOURCE_EXHAUSTED, "too many readers of the log")
        self._num_tails += 1
        try:
            async for reply in self._feed.tail(request):
                yield reply
        finally:
            self._num_tails -= 1

    async def status(self, _request: pb.StatusRequest) -> pb.StatusReply:
        """Says how everything is."""
        beat = self.pulse.beat
        usage = await self._blocking(shutil.disk_usage, os.fspath(self._store.root))
        return pb.StatusReply(
            run_id=self._run_id,
            software=software_version(),
            uptime_s=self._now_s() - self._started_s,
            task=self._spec.task,
            spec_digest=self._spec.digest(),
            ledger_seq=beat.ledger_seq,
            num_trials=beat.ledger_seq,
            num_quarantined=self._delivery.num_refused,
            staging_bytes=self._delivery.staging.num_bytes,
            disk_free_bytes=usage.free,
            latest_weights=weights_ref(beat.weights),
            trainer=beat.trainer,
            actors=[actor_status(lease, self._leases) for lease in self._leases.all()],
        )
