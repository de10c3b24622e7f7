"""Records into rows of the spool: what belongs to which trial, and what has come before.

A source hands its records out at least once. A beginning that is known already is continued where
it stopped if its trial is still open, and ignored to its end if it is not.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from protos import codec
from protos.trial import Outcome, RobotSpec, TrialRejected, check_trial_id, step_fields
from services.records import LOST_END, Record, StepRecord, TrialBegin, overruled
from services.spool_db import SpoolCorrupt, header_sha256, read_trial, row_sha256, settle

logger = logging.getLogger(__name__)


class Intake:
    """Writes records through `connection`, inside a transaction of the caller's."""

    def __init__(self, connection: sqlite3.Connection, unix_ns: Callable[[], int]) -> None:
        self._db = connection
        self._unix_ns = unix_ns
        self._is_ignoring = False  # until the end of the trial that comes in

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Forgets what came in since, when it was not written after all; it will come again."""
        before = self._is_ignoring
        try:
            yield
        except BaseException:
            self._is_ignoring = before
            raise

    def take(self, record: Record) -> None:
        """Writes one record; a step that does not fit the spec cuts its trial off there."""
        if isinstance(record, TrialBegin):
            self._begin(record)
        elif isinstance(record, StepRecord):
            self._step(record)
        else:
            if not self._is_ignoring:
                if record.is_overruled:
                    self._overrule_open(record.outcome)
                self.finish_open(record.outcome, record.abort_reason)
            self._is_ignoring = False

    def _begin(self, record: TrialBegin) -> None:
        self._is_ignoring = False
        found = self._db.execute(
            "SELECT state FROM trials WHERE trial_id = ?", (record.trial_id,)
        ).fetchone()
        if found is not None:
            self._is_ignoring = found[0] != "open"  # on disk already, whole
            return
        self.finish_open(Outcome.ABORTED, LOST_END)
        try:
            check_trial_id(record.trial_id)
            observation = codec.pack_row(record.spec.observations, record.observation)
        except TrialRejected as error:
            logger.error("event=trial_ignored trial=%s reason=%s", record.trial_id, error)
            self._is_ignoring = True
            return
        header = json.dumps(
            {
                "spec": json.loads(record.spec.to_json()),
                "provenance": record.provenance.to_header(),
            },
            sort_keys=True,
        )
        cursor = self._db.execute(
            "INSERT INTO trials (trial_id, state, header, header_sha256, begun_unix_ns) "
            "VALUES (?, 'open', ?, ?, ?)",
            (record.trial_id, header, header_sha256(record.trial_id, header), self._unix_ns()),
        )
        assert cursor.lastrowid is not None
        self._insert_row(cursor.lastrowid, record.trial_id, 0, observation, b"")

    def _step(self, record: StepRecord) -> None:
        found = self._db.execute(
            "SELECT seq, trial_id, num_steps, header FROM trials WHERE state = 'open' AND gap = ''"
        ).fetchone()
        if found is None or self._is_ignoring or record.index < found[2]:
            return
        seq, trial_id, num_steps, header = found
        spec = RobotSpec.from_json(json.dumps(json.loads(header)["spec"]))
        try:
            if record.index > num_steps:
                raise TrialRejected(f"the record of step {num_steps} was lost")
            observation = codec.pack_row(spec.observations, record.observation)
            step = codec.pack_row(step_fields(spec), record.columns)
        except TrialRejected as error:
            self._db.execute("UPDATE trials SET gap = ? WHERE seq = ?", (str(error), seq))
            return
        self._insert_row(seq, trial_id, record.index + 1, observation, step)
        self._db.execute("UPDATE trials SET num_steps = num_steps + 1 WHERE seq = ?", (seq,))

    def _insert_row(self, seq: int, trial_id: str, t: int, observation: bytes, step: bytes) -> None:
        self._db.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?)",
            (seq, t, observation, step, row_sha256(trial_id, t, observation, step)),
        )
        self._db.execute(
            "UPDATE trials SET num_bytes = num_bytes + ? WHERE seq = ?",
            (len(observation) + len(step), seq),
        )

    def _overrule_open(self, outcome: Outcome) -> None:
        """Makes the rewards of the open trial say what a person says of it."""
        found = self._db.execute(
            "SELECT seq, trial_id, header FROM trials WHERE state = 'open' AND gap = ''"
        ).fetchone()
        if found is None:
            return
        seq, trial_id, header = found
        fields = step_fields(RobotSpec.from_json(json.dumps(json.loads(header)["spec"])))
        rows = self._db.execute(
            "SELECT t, observation, step FROM rows WHERE trial_seq = ? AND t > 0 ORDER BY t", (seq,)
        ).fetchall()
        steps = [codec.unpack_row(fields, step) for _, _, step in rows]
        said = np.array([step["reward"] for step in steps], np.float32)
        for (t, observation, _), step, reward in zip(
            rows, steps, overruled(said, outcome), strict=True
        ):
            packed = codec.pack_row(fields, step | {"reward": reward})
            self._db.execute(
                "UPDATE rows SET step = ?, sha256 = ? WHERE trial_seq = ? AND t = ?",
                (packed, row_sha256(trial_id, t, observation, packed), seq, t),
            )

    def finish_open(self, outcome: Outcome, abort_reason: str) -> str | None:
        """Ends the open trial and checks it; returns its id, None if none was open."""
        found = self._db.execute(
            "SELECT seq, trial_id, gap FROM trials WHERE state = 'open'"
        ).fetchone()
        if found is None:
            return None
        seq, trial_id, gap = found
        if gap:
            outcome, abort_reason = Outcome.ABORTED, gap
        abort_reason = abort_reason.encode(errors="replace").decode()[: codec.MAX_TEXT_CHARS]
        self._db.execute(
            "UPDATE trials SET state = 'ready', outcome = ?, abort_reason = ? WHERE seq = ?",
            (outcome.value, abort_reason, seq),
        )
        try:
            digest = read_trial(self._db, trial_id).digest()
            self._db.execute("UPDATE trials SET digest = ? WHERE seq = ?", (digest, seq))
        except (TrialRejected, SpoolCorrupt) as error:
            logger.error("event=trial_invalid trial=%s reason=%s", trial_id, error)
            settle(
                self._db,
                trial_id,
                "rejected",
                unix_ns=self._unix_ns(),
                reason=f"not a valid trial: {error}",
            )
        return str(trial_id)
