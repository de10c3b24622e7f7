"""The spool: nothing that was recorded is lost, nothing damaged is handed out."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from learner.durable import StoreLocked
from protos.trial import Outcome, RobotSpec, Trial
from services.records import Record, StepRecord, TrialBegin, TrialEnd
from services.spool import Spool, SpoolConfig
from services.spool_db import SpoolCorrupt, SpoolFull, SpoolVersionMismatch
from tests.wire_data import (
    make_provenance,
    make_spec,
    make_trial,
    observation_row,
    step_row,
    trial_id_of,
)

SPEC = make_spec()


def records_of(
    seed: int, *, num_steps: int = 5, number: int = 1, spec: RobotSpec = SPEC
) -> list[Record]:
    """The records whose trial is `make_trial(spec, seed, num_steps=num_steps)`."""
    begin = TrialBegin(
        number=number,
        trial_id=trial_id_of(seed),
        spec=spec,
        provenance=make_provenance(seed),
        observation=observation_row(spec, seed, 0),
    )
    steps = [
        StepRecord(
            index=t,
            columns=step_row(spec, seed, t, is_last=t == num_steps - 1),
            observation=observation_row(spec, seed, t + 1),
        )
        for t in range(num_steps)
    ]
    outcome = Outcome.SUCCESS if seed % 2 == 0 else Outcome.FAILURE
    return [begin, *steps, TrialEnd(number=number, outcome=outcome)]


@pytest.fixture
def config(tmp_path: Path) -> SpoolConfig:
    return SpoolConfig(root=tmp_path / "spool", reserve_bytes=0)


@pytest.fixture
def spool(config: SpoolConfig) -> Iterator[Spool]:
    made = Spool(config)
    yield made
    made.close()


def assert_prefix_of(trial: Trial, whole: Trial) -> None:
    """The trial has the first steps of `whole`, unchanged."""
    length = trial.num_steps
    for name, array in trial.observations.items():
        np.testing.assert_array_equal(array, whole.observations[name][: length + 1])
    for name, array in trial.steps.items():
        np.testing.assert_array_equal(array, whole.steps[name][:length])


def test_trial_comes_out_as_it_went_in(spool: Spool) -> None:
    for record in records_of(4):
        assert spool.ready() == []
        spool.add([record])
    assert spool.ready() == [trial_id_of(4)]
    assert spool.load(trial_id_of(4)).digest() == make_trial(SPEC, 4).digest()


@pytest.mark.parametrize("cut", range(1, 7))
def test_trial_left_open_is_kept_as_far_as_it_went(config: SpoolConfig, cut: int) -> None:
    first = Spool(config)
    first.add(records_of(4)[:cut])
    first.close()
    second = Spool(config)
    assert second.open_trial_id == trial_id_of(4)
    assert second.abort_open("power cut") == trial_id_of(4)
    trial = second.load(trial_id_of(4))
    second.close()
    assert (trial.outcome, trial.abort_reason) == (Outcome.ABORTED, "power cut")
    assert trial.num_steps == cut - 1
    assert_prefix_of(trial, make_trial(SPEC, 4))


@pytest.mark.parametrize("cut", range(8))
def test_records_that_come_again_change_nothing(config: SpoolConfig, cut: int) -> None:
    first = Spool(config)
    first.add(records_of(4)[:cut])
    first.close()
    second = Spool(config)
    second.add(records_of(4))
    second.add(records_of(5, number=2))
    assert second.ready() == [trial_id_of(4), trial_id_of(5)]
    for seed in (4, 5):
        assert second.load(trial_id_of(seed)).digest() == make_trial(SPEC, seed).digest()
    second.close()


def test_finished_trial_that_comes_again_after_its_delivery_is_ignored(spool: Spool) -> None:
    spool.add(records_of(4))
    spool.mark_acked(trial_id_of(4), 17)
    spool.add(records_of(4))
    spool.add(records_of(5))
    assert spool.ready() == [trial_id_of(5)]
    assert spool.last_settled() == (trial_id_of(4), 17)


def test_beginning_within_an_open_trial_ends_that_one(spool: Spool) -> None:
    spool.add(records_of(4)[:3])
    spool.add(records_of(5))
    lost = spool.load(trial_id_of(4))
    assert (lost.outcome, lost.num_steps) == (Outcome.ABORTED, 2)
    assert spool.load(trial_id_of(5)).outcome is Outcome.FAILURE


def test_missing_step_cuts_the_trial_there(spool: Spool) -> None:
    records = records_of(4)
    spool.add(records[:3] + records[4:])
    trial = spool.load(trial_id_of(4))
    assert (trial.outcome, trial.num_steps) == (Outcome.ABORTED, 2)
    assert "step 2 was lost" in trial.abort_reason
    assert_prefix_of(trial, make_trial(SPEC, 4))


def test_misfitting_step_cuts_the_trial_there(spool: Spool) -> None:
    records = records_of(4)
    broken = records[3]
    assert isinstance(broken, StepRecord)
    wrong = dict(broken.observation) | {"state": np.zeros(9, np.float32)}
    records[3] = StepRecord(index=broken.index, columns=broken.columns, observation=wrong)
    spool.add(records)
    trial = spool.load(trial_id_of(4))
    assert (trial.outcome, trial.num_steps) == (Outcome.ABORTED, 2)
    assert "state" in trial.abort_reason


def test_misfitting_beginning_is_ignored_to_its_end(spool: Spool) -> None:
    records = records_of(4)
    begin = records[0]
    assert isinstance(begin, TrialBegin)
    records[0] = TrialBegin(
        number=1, trial_id=begin.trial_id, spec=SPEC, provenance=begin.provenance, observation={}
    )
    spool.add(records)
    spool.add(records_of(5))
    assert spool.ready() == [trial_id_of(5)]


def test_invalid_trial_is_set_apart_with_its_reason(spool: Spool) -> None:
    records = records_of(4)
    del records[-2]  # the last step, the one that is truncated
    spool.add(records)
    assert spool.ready() == []
    ((trial_id, reason),) = spool.rejected()
    assert trial_id == trial_id_of(4)
    assert "neither terminated nor truncated" in reason
    spool.add(records_of(5))
    assert spool.ready() == [trial_id_of(5)]


def test_settled_trial_stays_settled(spool: Spool) -> None:
    spool.add(records_of(4))
    spool.mark_rejected(trial_id_of(4), "the spec has changed")
    spool.mark_acked(trial_id_of(4), 3)
    assert spool.rejected() == [(trial_id_of(4), "the spec has changed")]
    counts = spool.counts()
    assert (counts.num_ready, counts.num_acked, counts.num_rejected) == (0, 0, 1)


def test_delivered_trials_go_when_their_time_is_over_and_others_stay(tmp_path: Path) -> None:
    now = 10**18
    spool = Spool(
        SpoolConfig(root=tmp_path, reserve_bytes=0, keep_acked_s=60.0), unix_ns=lambda: now
    )
    for seed in range(4):
        spool.add(records_of(seed))
    spool.mark_acked(trial_id_of(0), 1)
    spool.mark_rejected(trial_id_of(1), "no")
    now += 59 * 10**9
    assert spool.collect_garbage() == 0
    now += 2 * 10**9
    assert spool.collect_garbage() == 1
    counts = spool.counts()
    assert (counts.num_ready, counts.num_acked, counts.num_rejected) == (2, 0, 1)
    with pytest.raises(KeyError):
        spool.load(trial_id_of(0))
    spool.close()


def test_delivered_trials_go_at_once_when_room_is_needed(tmp_path: Path) -> None:
    spool = Spool(SpoolConfig(root=tmp_path, reserve_bytes=0, keep_acked_s=1e6))
    for seed in range(4):
        spool.add(records_of(seed))
    spool.mark_acked(trial_id_of(0), 1)
    spool.mark_acked(trial_id_of(3), 2)
    assert spool.collect_garbage() == 0
    assert spool.collect_garbage(is_pressing=True) == 1
    assert spool.last_settled() == (trial_id_of(3), 2), "it is said again after a restart"
    assert spool.ready() == [trial_id_of(1), trial_id_of(2)]
    spool.close()


def test_garbage_gives_its_disk_space_back(tmp_path: Path) -> None:
    spec = make_spec(image_size=64)
    spool = Spool(SpoolConfig(root=tmp_path, reserve_bytes=0, keep_acked_s=0.0))
    for seed in range(8):
        spool.add(records_of(seed, spec=spec, num_steps=20))
        spool.mark_acked(trial_id_of(seed), seed + 1)
    spool.add(records_of(9, spec=spec))
    assert spool.collect_garbage() == 8
    spool.close()
    assert (tmp_path / "spool.sqlite").stat().st_size < 500_000


def test_no_room_is_said_before_a_trial_begins(tmp_path: Path) -> None:
    free = 10 << 20
    spool = Spool(SpoolConfig(root=tmp_path, reserve_bytes=9 << 20), free_bytes=lambda _path: free)
    spool.require_room(SPEC)
    free = 9 << 20
    with pytest.raises(SpoolFull, match="9 MiB are free"):
        spool.require_room(SPEC)
    spool.close()


@pytest.mark.parametrize("table", ["rows", "trials"])
def test_flipped_bit_is_noticed(config: SpoolConfig, table: str) -> None:
    spool = Spool(config)
    spool.add(records_of(4))
    spool.close()
    statement = {
        "rows": "UPDATE rows SET observation = zeroblob(length(observation)) WHERE t = 2",
        "trials": "UPDATE trials SET outcome = 'failure'",
    }[table]
    with sqlite3.connect(config.root / "spool.sqlite") as db:
        db.execute(statement)
    db.close()
    spool = Spool(config)
    with pytest.raises(SpoolCorrupt, match=trial_id_of(4)):
        spool.load(trial_id_of(4))
    spool.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rows WHERE t = 5",
        "DELETE FROM rows WHERE t = 1",
        "UPDATE trials SET header='{}'",
    ],
)
def test_missing_row_and_changed_header_are_noticed(config: SpoolConfig, statement: str) -> None:
    spool = Spool(config)
    spool.add(records_of(4))
    spool.close()
    with sqlite3.connect(config.root / "spool.sqlite") as db:
        db.execute(statement)
    db.close()
    spool = Spool(config)
    with pytest.raises(SpoolCorrupt):
        spool.load(trial_id_of(4))
    spool.close()


def test_random_bit_flips_in_the_file_are_never_silent(config: SpoolConfig) -> None:
    spec = make_spec(image_size=48)  # most of the file is then data
    spool = Spool(config)
    spool.add(records_of(4, spec=spec))
    spool.close()
    path = config.root / "spool.sqlite"
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    digest = make_trial(spec, 4).digest()
    outcomes = {"noticed": 0, "harmless": 0}
    for _ in range(100):
        flipped = bytearray(sound)
        flipped[rng.integers(len(flipped))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        for aside in ("spool.sqlite-wal", "spool.sqlite-shm"):
            (config.root / aside).unlink(missing_ok=True)
        try:
            spool = Spool(config)
        except (SpoolCorrupt, SpoolVersionMismatch):
            outcomes["noticed"] += 1
            continue
        try:
            assert spool.load(trial_id_of(4)).digest() == digest
            outcomes["harmless"] += 1
        except (SpoolCorrupt, KeyError):
            outcomes["noticed"] += 1
        finally:
            spool.close()
    assert outcomes["noticed"] > 50


def test_spool_of_another_version_is_left_alone(config: SpoolConfig) -> None:
    Spool(config).close()
    with sqlite3.connect(config.root / "spool.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SpoolVersionMismatch, match="version 99"):
        Spool(config)


def test_file_that_is_no_database_is_said_to_be_none(config: SpoolConfig) -> None:
    config.root.mkdir()
    (config.root / "spool.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(SpoolCorrupt):
        Spool(config)


def test_two_processes_do_not_share_a_spool(spool: Spool, config: SpoolConfig) -> None:
    with pytest.raises(StoreLocked, match=str(os.getpid())):
        Spool(config)
    assert spool.ready() == []


def test_commits_are_flushed_to_the_disk(spool: Spool) -> None:
    assert spool._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert spool._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


WRITER = """
import sys
from pathlib import Path
from services.spool import Spool, SpoolConfig
from tests.services.test_spool import records_of

spool = Spool(SpoolConfig(root=Path(sys.argv[1]), reserve_bytes=0))
for seed in range(1000):
    for record in records_of(seed):
        spool.add([record])
    print(seed, flush=True)
"""


@pytest.mark.parametrize("kill_after", [1, 7, 20])
def test_what_was_said_to_be_written_outlives_kill_9(config: SpoolConfig, kill_after: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(config.root)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= kill_after:
                break
        writer.send_signal(signal.SIGKILL)
    spool = Spool(config)
    spool.abort_open("killed")
    ready = spool.ready(limit=10_000)
    assert ready[: kill_after + 1] == [trial_id_of(s) for s in range(kill_after + 1)]
    for seed, trial_id in enumerate(ready):
        trial = spool.load(trial_id)
        whole = make_trial(SPEC, seed)
        assert trial.digest() == whole.digest() or trial.outcome is Outcome.ABORTED
        assert_prefix_of(trial, whole)
    spool.close()
