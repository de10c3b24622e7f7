"""The learner as its callers see it: typed calls with deadlines, and few kinds of failure.

Every call but the log tail is idempotent, so whoever gets `LearnerUnavailable` may simply call
again; when, is the caller's decision (`services/backoff.py`).
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from protos import codec, learner_pb2_grpc
from protos import learner_pb2 as pb
from protos.trial import RobotSpec, SpecMismatch, TrialRejected
from services.backoff import Backoff
from services.channel import open_channel, with_hint
from services.credentials import ClientSecurity
from services.leases import LeaseLost
from services.process import software_version
from services.records import LoopStatus
from services.spool import SpoolCounts

logger = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
HELLO_S = 5.0
CALL_S = 10.0
COMMIT_S = 60.0
TAIL_S = 24 * 3600.0


class LearnerUnavailable(RuntimeError):
    """The learner does not answer, or cannot do this now. Calling again later is harmless."""


class LearnerRefused(RuntimeError):
    """The learner will not work with this actor until a person changes something."""


class ActorIdTaken(LearnerUnavailable):
    """Another process has our actor id, and was heard not long ago."""

    def __init__(self, reason: str, lease_ttl_s: float) -> None:
        super().__init__(reason)
        self.lease_ttl_s = lease_ttl_s
        """How long it may be silent before another one gets the id. [s]"""


class AccessDenied(LearnerUnavailable):
    """The learner wants a token that was not shown; a person has to give it to us."""


class WeightsGone(RuntimeError):
    """The learner does not keep that version any more; ask for the newest."""


@dataclass(frozen=True, kw_only=True)
class ActorIdentity:
    """Who says Hello."""

    actor_id: str
    incarnation: str
    is_sim: bool
    spec: RobotSpec


class LearnerClient:
    """One channel to one learner, for any number of threads; each call may be `LearnerUnavailable`.

    Args:
        address: HOST:PORT.
        security: What the learner is shown and known by; CannotStart if a file cannot be used.
    """

    def __init__(self, address: str, security: ClientSecurity | None = None) -> None:
        security = security or ClientSecurity()
        self.address = address
        self._metadata = security.metadata()
        self._channel = open_channel(address, security.root_certificate())
        self._stub: Any = learner_pb2_grpc.LearnerStub(self._channel)

    def close(self) -> None:
        """Cancels what is under way and closes the channel."""
        self._channel.close()

    def hello(self, who: ActorIdentity) -> pb.HelloReply:
        """Introduces an actor; returns the verdict OK with its lease.

        Raises:
            SpecMismatch: The learner expects another robot; the message lists the fields.
            LearnerRefused: The versions of the protocol do not fit.
            ActorIdTaken: Another process has this actor id.
        """
        request = pb.HelloRequest(
            proto_major=codec.PROTO_MAJOR,
            proto_minor=codec.PROTO_MINOR,
            actor_id=who.actor_id,
            incarnation=who.incarnation,
            kind=pb.ACTOR_KIND_SIM if who.is_sim else pb.ACTOR_KIND_REAL,
            spec_json=who.spec.to_json(),
            spec_digest=who.spec.digest(),
            control_hz=who.spec.control_hz,
            software=software_version(),
            sent_unix_ns=time.time_ns(),
        )
        reply: pb.HelloReply = self._call("Hello", request, HELLO_S, LearnerRefused)
        if reply.verdict == pb.HELLO_VERDICT_OK:
            return reply
        if reply.verdict == pb.HELLO_VERDICT_SPEC_MISMATCH:
            lines = "\n  ".join(["", *reply.difference])
            raise SpecMismatch(f"{reply.message} (here: learner, there: actor):{lines}")
        if reply.verdict == pb.HELLO_VERDICT_BUSY:
            raise ActorIdTaken(reply.message, reply.lease_ttl_s)
        raise LearnerRefused(reply.message or f"verdict {reply.verdict} of a newer learner")

    def heartbeat(
        self,
        lease_token: int,
        status: LoopStatus,
        spool: SpoolCounts,
        *,
        is_leaving: bool = False,
    ) -> pb.HeartbeatReply:
        """Keeps the lease, or gives it back when `is_leaving`; LeaseLost if it is not in force."""
        request = pb.HeartbeatRequest(
            lease_token=lease_token,
            loop_state=status.state,
            weights_version=status.weights_version,
            spool_trials=spool.num_ready,
            spool_bytes=spool.ready_bytes,
            fault=status.fault,
            rejected_trials=spool.num_rejected,
            is_leaving=is_leaving,
        )
        reply: pb.HeartbeatReply = self._call("Heartbeat", request, HEARTBEAT_S)
        if not reply.is_lease_valid:
            raise LeaseLost(reply.message)
        return reply

    def query_trials(self, trial_ids: Sequence[str]) -> list[pb.TrialHolding]:
        """Says what the learner holds of each trial, in their order."""
        request = pb.QueryTrialsRequest(trial_ids=trial_ids)
        reply: pb.QueryTrialsReply = self._call("QueryTrials", request, CALL_S)
        if [holding.trial_id for holding in reply.holdings] != list(trial_ids):
            raise LearnerUnavailable("QueryTrials: the learner answered for other trials")
        return list(reply.holdings)

    def put_chunk(
        self, lease_token: int, trial_id: str, trial: codec.EncodedTrial, chunk: codec.Chunk
    ) -> None:
        """Stages one chunk; LeaseLost, or TrialRejected if the learner cannot make sense of it."""
        request = pb.PutChunkRequest(
            lease_token=lease_token,
            trial_id=trial_id,
            payload_sha256=trial.payload_sha256,
            total_bytes=len(trial.payload),
            index=chunk.index,
            count=chunk.count,
            offset=chunk.offset,
            crc32=chunk.crc32,
            data=chunk.data,
        )
        self._call("PutChunk", request, CALL_S, TrialRejected)

    def commit_trial(
        self, lease_token: int, trial_id: str, trial: codec.EncodedTrial
    ) -> pb.CommitTrialReply:
        """Commits a staged trial; the verdict is STORED, DUPLICATE or INCOMPLETE.

        Raises:
            LeaseLost: The lease is not in force.
            TrialRejected: The learner refuses the trial; the message says why.
        """
        request = pb.CommitTrialRequest(
            lease_token=lease_token,
            trial_id=trial_id,
            manifest=trial.manifest,
            payload_sha256=trial.payload_sha256,
            trial_digest=trial.trial_digest,
        )
        reply: pb.CommitTrialReply = self._call("CommitTrial", request, COMMIT_S, TrialRejected)
        if reply.verdict == pb.COMMIT_VERDICT_REJECTED:
            raise TrialRejected(reply.reason)
        return reply

    def weights_manifest(self, after_version: int, wait_s: float) -> pb.GetWeightsManifestReply:
        """Waits up to `wait_s` for a version newer than `after_version`."""
        request = pb.GetWeightsManifestRequest(after_version=after_version, wait_s=wait_s)
        return self._call("GetWeightsManifest", request, wait_s + CALL_S)

    def weights_chunk(self, version: int, offset: int, length: int) -> bytes:
        """Reads a piece of a version's file; WeightsGone if it is not kept any more."""
        request = pb.GetWeightsChunkRequest(version=version, offset=offset, length=length)
        reply: pb.GetWeightsChunkReply = self._call("GetWeightsChunk", request, CALL_S)
        if zlib.crc32(reply.data) != reply.crc32 or not 0 < len(reply.data) <= length:
            raise LearnerUnavailable("GetWeightsChunk: the piece arrived damaged")
        return reply.data

    def put_log(self, lease_token: int, events: Sequence[pb.LiveEvent], num_dropped: int) -> None:
        """Hands live events over; LeaseLost."""
        request = pb.PutLogRequest(lease_token=lease_token, events=events, num_dropped=num_dropped)
        self._call("PutLog", request, CALL_S)

    def tail_log(
        self,
        after: pb.LogCursor | None = None,
        *,
        is_following: bool,
        with_live_events: bool = True,
        stop: threading.Event | None = None,
    ) -> Iterator[pb.TailLogReply]:
        """Yields committed trials and live events after a cursor.

        A following tail goes on where it was after every failure, without end; it says so once.

        Args:
            after: Cursor of the last reply seen; None for the first trial and live events from now.
            is_following: Whether to wait for more.
            with_live_events: Whether to be told more than committed trials.
            stop: Ends the tail between two tries.
        """
        request = pb.TailLogRequest(
            after=after, is_following=is_following, with_live_events=with_live_events
        )
        stop, backoff, is_lost = stop or threading.Event(), Backoff(), False
        while not stop.is_set():
            call = self._stub.TailLog(request, timeout=TAIL_S, metadata=self._metadata)
            try:
                with grpc_errors("TailLog", self.address):
                    for reply in call:
                        if is_lost:
                            logger.warning("event=tail_resumed learner=%s", self.address)
                        is_lost = False
                        backoff.worked()
                        request.after.CopyFrom(reply.cursor)
                        yield reply
                if not is_following:
                    return
            except LearnerUnavailable as error:
                if not is_following:
                    raise
                if not is_lost:
                    logger.warning("event=tail_lost learner=%s reason=%s", self.address, error)
                is_lost = True
            finally:
                call.cancel()
            stop.wait(backoff.failed())

    def list_trials(self, after_ledger_seq: int = 0, *, limit: int = 0) -> pb.ListTrialsReply:
        """Returns one page of the ledger; `limit` 0 leaves the length to the learner."""
        request = pb.ListTrialsRequest(after_ledger_seq=after_ledger_seq, limit=limit)
        return self._call("ListTrials", request, CALL_S)

    def status(self) -> pb.StatusReply:
        """Returns how the learner, its trainer and its actors are."""
        return self._call("Status", pb.StatusRequest(), CALL_S)

    def _call(
        self, name: str, request: Message, timeout_s: float, invalid: type[Exception] | None = None
    ) -> Any:
        with grpc_errors(name, self.address, invalid):
            return getattr(self._stub, name)(request, timeout=timeout_s, metadata=self._metadata)


@contextmanager
def grpc_errors(call: str, address: str, invalid: type[Exception] | None = None) -> Iterator[None]:
    """Translates what gRPC raises into our errors; the one place that does.

    Args:
        call: Name of the call, for the message.
        address: Whom it went to, for the message.
        invalid: What to raise when the learner cannot make sense of the request, if that may be.
    """
    try:
        yield
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
        details = (error.details() if isinstance(error, grpc.Call) else None) or str(error)
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            raise LeaseLost(details) from error
        if code is grpc.StatusCode.INVALID_ARGUMENT and invalid is not None:
            raise invalid(details) from error
        if code is grpc.StatusCode.NOT_FOUND:
            raise WeightsGone(details) from error
        if code is grpc.StatusCode.UNAUTHENTICATED:
            raise AccessDenied(f"{call} at {address}: {details}") from error
        details = f"{call} at {address}: {code.name}: {with_hint(details)}"
        raise LearnerUnavailable(details) from error
    except ValueError as error:  # what a closed channel raises
        raise LearnerUnavailable(f"{call} at {address}: {error}") from error
