"""Every damaged byte is noticed and named, and what goes on beside a check is no damage."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest
import zarr

from learner.store import TrialStore
from learner.zarr_group import TrialCorrupt
from protos.trial import Trial
from tests.learner import store_rig
from tests.learner.store_rig import group_of, lose_the_row
from tests.learner.trials import make_trial, trial_id_of

root = store_rig.root


def change_the_row(root: Path, number: int, change: str) -> None:
    ledger = sqlite3.connect(root / "ledger.sqlite", isolation_level=None)
    ledger.execute(f"UPDATE trials SET {change} WHERE trial_id = ?", (trial_id_of(number),))
    ledger.close()


def test_every_flipped_bit_is_found(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1, num_steps=9, is_noisy=True))
    files = [p for p in group_of(root, 1).rglob("*") if p.is_file()]
    draw = random.Random(0)
    for path in files * 3:
        whole = path.read_bytes()
        at = draw.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(TrialCorrupt, match=trial_id_of(1)):
            store.load(trial_id_of(1))
        path.write_bytes(whole)
    assert store.fsck().problems == ()


def test_metadata_that_says_the_same_in_other_bytes_is_noticed_too(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    path = group_of(root, 1) / "zarr.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(TrialCorrupt, match=r"zarr\.json has another digest"):
        store.load(trial_id_of(1))


def test_every_missing_file_is_an_error_and_fsck_names_the_trial(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    store.commit(make_trial(2))
    for path in [p for p in group_of(root, 1).rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        path.unlink()
        report = store.fsck()
        assert report.num_trials == 2
        assert [problem.where for problem in report.problems] == [trial_id_of(1)], path
        path.write_bytes(whole)
    assert store.fsck().problems == ()


def test_zarr_alone_notices_a_flipped_bit_by_its_crc32c(root: Path) -> None:
    TrialStore.open(root).commit(make_trial(1, num_steps=9, is_noisy=True))
    chunk = group_of(root, 1) / "observation" / "image.front" / "c.0.0.0.0"
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    chunk.write_bytes(damaged)
    array = zarr.open_array(group_of(root, 1), path="observation/image.front", mode="r")
    with pytest.raises(ValueError, match="checksum"):
        array[...]


def test_fsck_reports_a_group_that_nobody_committed(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    lose_the_row(root, 1)
    assert [(p.where, p.what) for p in store.fsck().problems] == [
        (f"offline.zarr/trials/{trial_id_of(1)}", "not in the ledger")
    ]


@pytest.mark.parametrize(
    "change",
    ["total_reward = total_reward + 1", "header = x'ff'", "header = CAST(x'ff' AS TEXT)"],
    ids=["another number", "a blob", "no text"],
)
def test_fsck_names_a_damaged_row_and_reads_the_rest(root: Path, change: str) -> None:
    store = TrialStore.open(root)
    for number in (1, 2, 3):
        store.commit(make_trial(number))
    change_the_row(root, 2, change)
    chunk = group_of(root, 3) / "observation" / "state" / "c.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    report = store.fsck()
    assert report.num_trials == 2
    assert [problem.where for problem in report.problems] == ["ledger.sqlite", trial_id_of(3)]
    assert f"row 2, of trial {trial_id_of(2)}," in report.problems[0].what
    assert "restore ledger.sqlite from a backup" in report.problems[0].what


def test_a_commit_while_fsck_reads_is_no_problem(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TrialStore.open(root)
    writer.commit(make_trial(1))
    reader = TrialStore.open(root, read_only=True)
    real_load = reader.load

    def load(trial_id: str) -> Trial:
        writer.commit(make_trial(2))
        return real_load(trial_id)

    monkeypatch.setattr(reader, "load", load)
    report = reader.fsck()
    assert (report.num_trials, report.problems) == (1, ())
    assert len(list(reader.iter_rows())) == 2


def test_a_group_whose_row_comes_a_moment_later_is_no_problem(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    row = store.ledger.get(trial_id_of(1))
    assert row is not None
    lose_the_row(root, 1)
    monkeypatch.setattr("learner.store_check.time.sleep", lambda _: store.ledger.append(row))
    assert store.fsck().problems == ()


def test_an_old_group_without_a_row_is_not_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    lose_the_row(root, 1)
    os.utime(group_of(root, 1), (0, 0))
    monkeypatch.setattr("learner.store_check.time.sleep", lambda _: pytest.fail("waited"))
    assert [problem.what for problem in store.fsck().problems] == ["not in the ledger"]


def test_a_group_that_goes_to_quarantine_while_fsck_reads_is_no_problem(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    store.commit(make_trial(2))
    lose_the_row(root, 2)
    real_load, target = store.load, root / "quarantine" / "moved"

    def load(trial_id: str) -> Trial:
        group_of(root, 2).rename(target)
        return real_load(trial_id)

    monkeypatch.setattr(store, "load", load)
    assert store.fsck().problems == ()
