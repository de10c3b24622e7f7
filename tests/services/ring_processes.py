"""A producer and a consumer of a ring as processes of their own, to be killed by tests."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path

import numpy as np

from protos.trial import (
    FieldSpec,
    Outcome,
    Provenance,
    RobotSpec,
    Source,
    Trial,
    new_trial_id,
    step_fields,
)
from services.ring import RingFull, RingReader, RingWriter
from services.ring_memory import Ring
from tests.services.assembler import TrialAssembler


def make_spec(max_steps: int = 4) -> RobotSpec:
    return RobotSpec(
        task="counting",
        observations=(
            FieldSpec(name="image.front", dtype="uint8", shape=(4, 5, 3)),
            FieldSpec(name="state", dtype="float32", shape=(3,)),
        ),
        action_names=("x", "y"),
        action_scale=(0.01, 0.01),
        control_hz=10.0,
        max_steps=max_steps,
    )


def make_provenance(seed: int = 0) -> Provenance:
    return Provenance(
        actor="a",
        incarnation="i",
        source=Source.ONLINE,
        seed=seed,
        started_unix_ns=seed,
        software="test",
    )


def observation(value: int) -> dict[str, np.ndarray]:
    """Everything seen is `value`."""
    return {
        "image.front": np.full((4, 5, 3), value % 256, np.uint8),
        "state": np.full(3, value, np.float32),
    }


def columns(spec: RobotSpec, value: int, *, is_last: bool = False) -> dict[str, np.ndarray]:
    """Everything countable is `value`, but what a trial forbids."""
    made = {f.name: np.full(f.shape, 0, f.dtype) for f in step_fields(spec)}
    made["t_scheduled_ns"] = np.asarray(value, np.int64)
    made["reward"] = np.asarray(value, np.float32)
    made["truncated"] = np.asarray(is_last)
    return made


def write_trial(writer: RingWriter, spec: RobotSpec, start: int) -> str:
    """Writes one whole trial whose observations count up from `start`; returns its id."""
    trial_id = new_trial_id()
    writer.begin(trial_id, make_provenance(start), observation(start))
    for step in range(spec.max_steps):
        is_last = step == spec.max_steps - 1
        writer.step(columns(spec, start + step, is_last=is_last), observation(start + step + 1))
    writer.end(Outcome.FAILURE)
    return trial_id


def check_counting(trial: Trial) -> None:
    """Asserts that a trial of `write_trial` is contiguous from its seed on."""
    start, length = trial.provenance.seed, trial.num_steps
    expected = start + np.arange(length + 1)
    np.testing.assert_array_equal(trial.observations["state"][:, 0], expected.astype(np.float32))
    np.testing.assert_array_equal(trial.observations["image.front"][:, 1, 2, 0], expected % 256)
    np.testing.assert_array_equal(trial.steps["t_scheduled_ns"], expected[:length])


def produce(path: Path, told: Path) -> None:
    """Writes trials for ever; appends the id of each finished one to `told` afterwards."""
    ring = Ring(path)
    writer = RingWriter(ring)
    writer.abort_open_trial("the producer died")
    with told.open("a") as file:
        while True:
            try:
                trial_id = write_trial(writer, ring.spec, 100 * ring.num_begun)
            except RingFull:
                continue
            file.write(f"{trial_id}\n")
            file.flush()


def consume(path: Path, spool: Path) -> None:
    """Puts trials in a database for ever, the way the recorder does."""
    reader = RingReader(Ring(path))
    assembler = TrialAssembler()
    with (
        sqlite3.connect(spool, autocommit=True)
        if sys.version_info >= (3, 12)
        else (sqlite3.connect(spool, isolation_level=None)) as database
    ):
        database.execute("CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, digest, row)")
        while True:
            for record in reader.poll(0.05):
                trial = assembler.add(record)
                if trial is None:
                    continue
                row = json.dumps([trial.provenance.seed, trial.num_steps, trial.outcome])
                check_counting(trial)
                old = database.execute(
                    "SELECT digest FROM t WHERE id = ?", (trial.trial_id,)
                ).fetchone()
                if old is None:
                    values = (trial.trial_id, trial.digest(), row)
                    database.execute("INSERT INTO t VALUES (?, ?, ?)", values)
                elif old[0] != trial.digest():
                    os._exit(9)
            reader.commit()


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
