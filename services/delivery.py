"""From chunks to a committed trial: the ingress's blocking half, run in its executor.

The order is fixed: all chunks are here, they add up to the announced digest, the arrays make a
valid trial, it is of the learner's spec, its own digest is the announced one, the store commits it
durably; only then does anybody hear STORED. Each step may be repeated after any failure.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from learner.durable import full_disk_is_store_full
from learner.ledger import QuarantineRow, TrialRow
from learner.store import TrialStore
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import RobotSpec, TrialRejected, check_trial_id
from services.staging import BadChunk, ChunkDamaged, Incomplete, Staging, upload_of

logger = logging.getLogger(__name__)

_REMEMBERED = 1024
_MAX_REASON_CHARS = 2000
_MAX_RANGES = 1024


@dataclass(frozen=True, kw_only=True)
class DeliveryConfig:
    """How much actors may send."""

    max_trial_bytes: int = 1 << 30
    """Largest payload of one trial."""
    max_uploads: int = 64
    """Trials in upload at once; the one untouched for longest makes way."""
    max_staging_bytes: int = 8 << 30
    """What uploads may take on disk together."""
    max_quarantine_bytes: int = 4 << 30
    """What refused uploads may take on disk together; above it only the reason is kept."""
    max_quarantined: int = 10_000
    """How many refusals are remembered."""
    reserve_bytes: int = 1 << 30
    """Uploads are refused that would leave less than this free on the store's disk."""

    def __post_init__(self) -> None:
        if min(self.max_trial_bytes, self.max_uploads, self.max_staging_bytes) < 1:
            raise ValueError("max_trial_bytes, max_uploads and max_staging_bytes must be positive")
        if min(self.max_quarantine_bytes, self.max_quarantined, self.reserve_bytes) < 0:
            raise ValueError("quarantine limits and reserve_bytes must not be negative")


class Delivery:
    """Takes chunks and commits trials; safe to call from several threads.

    Args:
        config: The limits.
        store: Where trials go; open for writing.
        spec: The one spec that is accepted.
    """

    def __init__(self, config: DeliveryConfig, store: TrialStore, spec: RobotSpec) -> None:
        self._config = config
        self._store = store
        self._spec = spec
        self.staging = Staging(
            store.root / "staging",
            max_uploads=config.max_uploads,
            max_bytes=config.max_staging_bytes,
            reserve_bytes=config.reserve_bytes,
        )
        for trial_id in self.staging.trial_ids():
            if store.ledger.get(trial_id) is not None:
                self.staging.drop(trial_id)
        self._mutex = threading.Lock()
        self._committed: dict[tuple[str, str], None] = {}  # the newest ones, oldest first
        quarantined = store.ledger.quarantined()
        self._refused = {row.trial_id: row for row in quarantined}
        self._refusals = {(row.trial_id, row.digest) for row in quarantined}
        self._quarantine = store.root / "quarantine"
        # Walked once: thousands of refused trials would make each further refusal slow.
        self._quarantine_bytes = _size_of(self._quarantine)

    @property
    def num_refused(self) -> int:
        """How many trials are in quarantine."""
        return len(self._refused)

    def holding(self, trial_id: str) -> pb.TrialHolding:
        """Says what is here of one trial; TrialRejected if `trial_id` is none."""
        row = self._store.ledger.get(check_trial_id(trial_id))
        if row is not None:
            return pb.TrialHolding(
                trial_id=trial_id,
                state=pb.TRIAL_STATE_STORED,
                trial_digest=row.digest,
                ledger_seq=_seq(row),
            )
        if (found := self.staging.received(trial_id)) is not None:
            upload, ranges = found
            return pb.TrialHolding(
                trial_id=trial_id,
                state=pb.TRIAL_STATE_STAGED,
                payload_sha256=upload.payload_sha256,
                received=_ranges(ranges),
            )
        if (refused := self._refused.get(trial_id)) is not None:
            return pb.TrialHolding(
                trial_id=trial_id,
                state=pb.TRIAL_STATE_REJECTED,
                trial_digest=refused.digest,
                reason=refused.reason,
            )
        return pb.TrialHolding(trial_id=trial_id, state=pb.TRIAL_STATE_MISSING)

    def put_chunk(self, request: pb.PutChunkRequest) -> int:
        """Stages one chunk; returns how many of its upload are here.

        Raises:
            BadChunk: The chunk contradicts itself or its upload.
            ChunkDamaged: Its checksum is wrong.
            TrialRejected: `trial_id` is none.
            StoreFull: The disk is full; the chunk may be sent again later.
        """
        trial_id = check_trial_id(request.trial_id)
        if request.total_bytes > self._config.max_trial_bytes:
            raise BadChunk(
                f"a payload of {request.total_bytes} bytes; {self._config.max_trial_bytes} is the "
                "limit"
            )
        upload = upload_of(
            request.payload_sha256,
            request.total_bytes,
            index=request.index,
            count=request.count,
            offset=request.offset,
            num_bytes=len(request.data),
        )
        if zlib.crc32(request.data) != request.crc32:
            raise ChunkDamaged(f"chunk {request.index}: its checksum is wrong; send it again")
        if (trial_id, upload.payload_sha256) in self._committed:
            return upload.count  # came again after the commit
        return self.staging.put(trial_id, upload, request.index, request.data)

    def commit(self, request: pb.CommitTrialRequest) -> pb.CommitTrialReply:
        """Turns an upload into a committed trial.

        Raises:
            TrialRejected: `trial_id` is none.
            StoreFull: The disk is full; nothing was changed, a later try may succeed.
        """
        trial_id = check_trial_id(request.trial_id)
        row = self._store.ledger.get(trial_id)
        if row is not None and row.digest == request.trial_digest:
            self.staging.drop(trial_id)
            return pb.CommitTrialReply(verdict=pb.COMMIT_VERDICT_DUPLICATE, ledger_seq=_seq(row))
        try:
            payload = self.staging.payload(trial_id, request.payload_sha256)
        except Incomplete as error:
            return self._incomplete(trial_id, request.payload_sha256, str(error))
        try:
            trial = codec.decode_trial(request.manifest, payload)
            if trial.trial_id != trial_id:
                raise TrialRejected(f"the header is that of trial {trial.trial_id}")
            if trial.spec.digest() != self._spec.digest():
                difference = "; ".join(self._spec.difference(trial.spec)) or "in its text form"
                raise TrialRejected(f"it is of another robot spec: {difference}"[:2000])
            if trial.digest() != request.trial_digest:
                raise TrialRejected("header and arrays have another digest than was announced")
            if row is not None:  # the store's own quarantine has no limits
                raise TrialRejected(
                    f"trial {trial_id} was committed with digest {row.digest[:12]}, this one has "
                    f"{request.trial_digest[:12]}"
                )
        except TrialRejected as error:
            reason = str(error)[:_MAX_REASON_CHARS]  # it may quote what was sent
            self._keep_apart(trial_id, request, reason)
            return self._refuse(trial_id, request, reason)
        try:
            result = self._store.commit(trial)
        except TrialRejected as error:  # committed meanwhile; the store has put it into quarantine
            self.staging.drop(trial_id)
            return self._refuse(trial_id, request, str(error))
        self._remember(trial_id, request.payload_sha256)
        self.staging.drop(trial_id)
        verdict = pb.COMMIT_VERDICT_DUPLICATE if result.is_duplicate else pb.COMMIT_VERDICT_STORED
        return pb.CommitTrialReply(verdict=verdict, ledger_seq=result.ledger_seq)

    def _remember(self, trial_id: str, payload_sha256: str) -> None:
        with self._mutex:
            self._committed[trial_id, payload_sha256] = None
            if len(self._committed) > _REMEMBERED:
                del self._committed[next(iter(self._committed))]

    def _incomplete(self, trial_id: str, payload_sha256: str, reason: str) -> pb.CommitTrialReply:
        found = self.staging.received(trial_id)
        is_same = found is not None and found[0].payload_sha256 == payload_sha256
        return pb.CommitTrialReply(
            verdict=pb.COMMIT_VERDICT_INCOMPLETE,
            reason=reason,
            received=_ranges(found[1]) if found is not None and is_same else [],
        )

    def _keep_apart(self, trial_id: str, request: pb.CommitTrialRequest, reason: str) -> None:
        """Moves a refused upload to where a person can look at it, within limits."""
        target = self._quarantine / f"{trial_id}.{request.payload_sha256[:12]}.upload"
        size = request.manifest.payload_bytes
        with self._mutex:
            has_room = (
                not target.exists()
                and len(self._refusals) < self._config.max_quarantined
                and self._quarantine_bytes + size <= self._config.max_quarantine_bytes
            )
            if has_room:
                self._quarantine_bytes += size
        if not has_room:
            self.staging.drop(trial_id)
            return
        self.staging.move(trial_id, target)
        with full_disk_is_store_full(str(target)):
            (target / "manifest.binpb").write_bytes(request.manifest.SerializeToString())
            (target / "reason.txt").write_text(reason + "\n", encoding="utf-8")

    def _refuse(
        self, trial_id: str, request: pb.CommitTrialRequest, reason: str
    ) -> pb.CommitTrialReply:
        logger.warning("event=trial_refused trial=%s reason=%s", trial_id, reason)
        row = QuarantineRow(
            trial_id=trial_id,
            digest=request.trial_digest[:64],
            reason=reason,
            unix_ns=time.time_ns(),
        )
        refusal = (trial_id, row.digest)
        if refusal in self._refusals or len(self._refusals) < self._config.max_quarantined:
            self._store.ledger.quarantine(row)
            self._refusals.add(refusal)
            self._refused[trial_id] = row
        return pb.CommitTrialReply(verdict=pb.COMMIT_VERDICT_REJECTED, reason=reason)


def committed_trial(row: TrialRow) -> pb.CommittedTrial:
    """Turns a ledger row into what viewers get."""
    return pb.CommittedTrial(
        ledger_seq=_seq(row),
        trial_id=row.trial_id,
        trial_digest=row.digest,
        source=row.source.value,
        outcome=row.outcome.value,
        num_steps=row.num_steps,
        total_reward=row.total_reward,
        actor_id=row.actor,
        weights_version=row.weights_version,
        position_index=row.position_index,
        committed_unix_ns=row.committed_unix_ns,
    )


def _seq(row: TrialRow) -> int:
    assert row.ledger_seq is not None
    return row.ledger_seq


def _ranges(ranges: list[tuple[int, int]]) -> list[pb.ChunkRange]:
    # Those left out are sent once more, which does no harm.
    return [pb.ChunkRange(first=first, count=count) for first, count in ranges[:_MAX_RANGES]]


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
