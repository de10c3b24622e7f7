"""A ring in shared memory that carries records from the loop to the recorder.

One producer, one consumer, fixed-size slots whose layout follows from the robot's spec. The
producer never waits: room for a whole trial is asked for before the trial begins. The consumer
moves the tail only over what is on disk, so a recorder that was killed reads the rest again.

Why nothing tears: a record is written into its slot first and counted by one aligned 8-byte store
of `head` afterwards; a producer killed in between leaves a slot that nobody looks at. x86-64 keeps
the two in order. On arm64 the store of `head` may become visible before the bytes of the slot, so
every slot carries its place in the sequence and a CRC: the reader copies the slot, checks the copy,
and looks again until it holds. In the other direction the reader works on its own checked copy, and
the producer does not reuse a slot before the tail has passed it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping

import numpy as np

from protos.trial import (
    FieldSpec,
    Outcome,
    Provenance,
    TrialRejected,
    step_fields,
)
from services.records import (
    LoopStatus,
    Record,
    StepRecord,
    TrialBegin,
    TrialEnd,
    WeightsMark,
)
from services.ring_control import LinkState, LoopState
from services.ring_memory import (
    COLUMN,
    KIND_BEGIN,
    KIND_END,
    KIND_STEP,
    SEEN,
    TEXT_BYTES,
    Ring,
)

logger = logging.getLogger(__name__)

_POLL_S = 0.005
_SETTLE_S = 1.0
DAMAGED = "a record of the trial was damaged in memory"


class RingFull(RuntimeError):
    """There is no room for a whole trial; the recorder has to catch up first."""


class RingWriter:
    """The producer's side; one at a time may live."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._fields = {
            COLUMN: {f.name: f for f in step_fields(ring.spec)},
            SEEN: {f.name: f for f in ring.spec.observations},
        }
        self._index = 0

    @property
    def has_room(self) -> bool:
        """Whether a whole trial fits."""
        control = self._ring.control
        return self._ring.num_slots - (control.head - control.tail) >= self._ring.spec.max_steps + 3

    def begin(
        self, trial_id: str, provenance: Provenance, observation: Mapping[str, np.ndarray]
    ) -> int:
        """Writes the beginning of a trial and returns its number on this ring, from 1.

        Raises:
            RingFull: A whole trial does not fit.
            TrialRejected: The observation does not fit the spec, or the provenance is too long.
        """
        if not self.has_room:
            raise RingFull(f"the recorder is more than {self._ring.num_slots} records behind")
        assert not self._ring.has_open_trial, "the previous trial has not ended"
        number = self._ring.num_begun + 1
        text = json.dumps(provenance.to_header()).encode()
        self._index = 0
        self._write(KIND_BEGIN, number, trial_id, text, {SEEN: observation})
        return number

    def step(
        self, columns: Mapping[str, np.ndarray], observation: Mapping[str, np.ndarray]
    ) -> None:
        """Writes one finished step and the observation it led to; TrialRejected if they misfit."""
        ring = self._ring
        assert ring.has_open_trial, "no trial is open"
        assert self._index < ring.spec.max_steps, "the trial is longer than its spec allows"
        arrays = {COLUMN: columns, SEEN: observation}
        self._write(KIND_STEP, *ring.last_trial, b"", arrays)
        self._index += 1

    def end(self, outcome: Outcome, abort_reason: str = "", *, is_overruled: bool = False) -> None:
        """Writes the end of the open trial; see `TrialEnd`."""
        assert self._ring.has_open_trial, "no trial is open"
        said = {"abort_reason": abort_reason[:600], "is_overruled": is_overruled}
        text = json.dumps({"outcome": outcome.value, **said}).encode()
        complete = 0 if outcome is Outcome.ABORTED else 1
        self._write(KIND_END, *self._ring.last_trial, text, {}, complete=complete)

    def abort_open_trial(self, reason: str) -> bool:
        """Ends a trial that a dead producer left open; False when there is none."""
        if not self._ring.has_open_trial:
            return False
        self.end(Outcome.ABORTED, reason)
        return True

    def _write(
        self,
        kind: int,
        number: int,
        trial_id: str,
        text: bytes,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        *,
        complete: int = 0,
    ) -> None:
        if len(text) > TEXT_BYTES:
            raise TrialRejected(f"{len(text)} bytes of provenance; {TEXT_BYTES} fit")
        ring, head = self._ring, self._ring.control.head
        complete += ring.num_complete
        slot = ring.slots[head % ring.num_slots]
        for prefix, named in arrays.items():
            _check(self._fields[prefix], named)
            for name, array in named.items():
                slot[prefix + name] = array
        slot["kind"], slot["index"], slot["text_bytes"] = kind, self._index, len(text)
        slot["seq"], slot["number"], slot["complete"] = head, number, complete
        slot["trial_id"] = trial_id.encode()
        slot["text"][: len(text)] = np.frombuffer(text, np.uint8)
        slot["crc"] = ring.checksum(ring.row(head), len(text))
        ring.control.head = head + 1


def _check(fields: Mapping[str, FieldSpec], named: Mapping[str, np.ndarray]) -> None:
    if fields.keys() != named.keys():
        raise TrialRejected(
            f"missing {sorted(fields.keys() - named.keys())}, "
            f"unexpected {sorted(named.keys() - fields.keys())}"
        )
    for name, array in named.items():
        field = fields[name]
        if array.dtype != np.dtype(field.dtype) or array.shape != field.shape:
            raise TrialRejected(
                f"{name}: expected {field.dtype} {field.shape}, got {array.dtype} {array.shape}"
            )


class RingReader:
    """The consumer's side, a `RecordSource` and a `LoopLink`; begins where the spool ends."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._position = ring.control.tail
        self._boundary = self._position
        self._open: TrialBegin | None = None

    def poll(self, timeout_s: float) -> list[Record]:
        """Returns the records not handed out yet, in order; empty when `timeout_s` passes.

        No answer reaches past a `TrialEnd`. A record that stays damaged is logged, and in its place
        its trial ends as aborted; what else comes of that trial is left out, and those after it are
        unharmed. A trial without a beginning is left out whole.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._ring.control.recorder_heartbeat_ns = time.monotonic_ns()
            if self._position < self._ring.control.head:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(_POLL_S, left))
        records: list[Record] = []
        head = self._ring.control.head
        while self._position < head:
            record = self._read(self._position) or self._instead_of(self._position)
            self._position += 1
            if isinstance(record, TrialBegin):
                self._open = record
            elif self._open is None or record is None:
                self._leave_out()
                continue
            records.append(record)
            if isinstance(record, TrialEnd):
                self._open = None
                self._boundary = self._position
                break
        return records

    def commit(self) -> None:
        """Lets go of every trial whose end has been handed out: it is on disk now."""
        self._ring.control.tail = self._boundary

    def _instead_of(self, position: int) -> TrialEnd | None:
        """Returns the end of the open trial, to stand for a damaged record: it may be its last."""
        lost = self._open
        trial_id = "unknown" if lost is None else lost.trial_id
        logger.error("event=record_damaged record=%d trial=%s ends=aborted", position, trial_id)
        if lost is None:
            return None
        return TrialEnd(number=lost.number, outcome=Outcome.ABORTED, abort_reason=DAMAGED)

    def _leave_out(self) -> None:
        """Lets go of a record that is handed to nobody, unless one before it is not on disk yet."""
        is_rest_on_disk = self._ring.control.tail == self._boundary
        self._boundary = self._position
        if is_rest_on_disk:
            self.commit()

    def status(self) -> LoopStatus:
        """Returns the loop's latest word about itself."""
        control = self._ring.control
        return LoopStatus(
            state=LoopState(control.loop_state).name.lower(),
            weights_version=control.weights_in_use,
            fault=control.fault,
        )

    def announce_weights(self, mark: WeightsMark) -> None:
        """Says that SPOOL/weights/VERSION holds the newest verified weights."""
        self._ring.control.announced_weights = mark

    def announce_room(self, *, has_room: bool) -> None:
        """Says whether the spool has room for one more trial; without it none may begin."""
        self._ring.control.is_spool_full = not has_room

    def announce_link(self, *, is_up: bool) -> None:
        """Says whether the learner answers."""
        self._ring.control.set_link(LinkState.UP if is_up else LinkState.DOWN)

    def announce_acked(self, *, trial_id: str, ledger_seq: int) -> None:
        """Says that the learner holds a trial, and as which row of its ledger.

        Only the newest trial matters to the loop; trials are acknowledged in order.
        """
        number, newest_id = self._ring.last_trial
        if trial_id == newest_id:
            self._ring.control.set_acked(number, ledger_seq)

    def announce_trained(self, *, version: int, ledger_seq: int) -> None:
        """Says that weights of a version are all that comes of the ledger up to a row."""
        self._ring.control.set_trained(version, ledger_seq)

    def announce_trainer(self, *, has_failed: bool) -> None:
        """Says whether the learner's trainer has failed."""
        self._ring.control.has_trainer_failed = has_failed

    def announce_unsent(self, num_trials: int) -> None:
        """Says how many trials of the spool wait for an acknowledgement; before each `commit`."""
        self._ring.control.unsent_trials = num_trials

    def _read(self, position: int) -> Record | None:
        deadline = time.monotonic() + _SETTLE_S
        while True:
            row = self._ring.row(position).copy()
            slot = row.view(self._ring.slots.dtype)[0]
            text_bytes = int(slot["text_bytes"])
            if (
                text_bytes <= TEXT_BYTES
                and int(slot["seq"]) == position
                and int(slot["crc"]) == self._ring.checksum(row, text_bytes)
            ):
                return self._decode(slot, bytes(slot["text"][:text_bytes]))
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)

    def _decode(self, slot: np.void, text: bytes) -> Record:
        spec, kind, number = self._ring.spec, int(slot["kind"]), int(slot["number"])
        if kind == KIND_END:
            said = json.loads(text)
            return TrialEnd(number=number, **{**said, "outcome": Outcome(said["outcome"])})
        seen = {f.name: np.asarray(slot[SEEN + f.name]) for f in spec.observations}
        if kind == KIND_STEP:
            columns = {f.name: np.asarray(slot[COLUMN + f.name]) for f in step_fields(spec)}
            return StepRecord(index=int(slot["index"]), columns=columns, observation=seen)
        said = json.loads(text)
        return TrialBegin(
            number=number,
            trial_id=slot["trial_id"].decode(),
            spec=spec,
            provenance=Provenance.from_header(said),
            observation=seen,
        )
