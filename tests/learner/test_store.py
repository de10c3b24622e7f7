"""The store loses nothing at a kill, notices every damaged byte and survives a full disk."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from learner import durable
from learner.durable import FAILPOINT_VARIABLE, StoreFull, StoreLocked
from learner.layout import StoreNotFound
from learner.ledger import Ledger, StoreVersionMismatch, TrialRow
from learner.store import TrialStore
from learner.zarr_group import TrialCorrupt
from protos.trial import Source, Trial, TrialRejected
from tests.contracts.store import StoreContract, assert_same
from tests.learner.trials import make_spec, make_trial, trial_id_of, with_reward

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


class TestFreshStore(StoreContract):
    @pytest.fixture
    def store(self, root: Path) -> TrialStore:
        return TrialStore.open(root)


class TestReopenedStore(StoreContract):
    @pytest.fixture
    def store(self, root: Path) -> TrialStore:
        TrialStore.open(root).close()
        return TrialStore.open(root)


class TestStoreOfChunkedColumns(StoreContract):
    @pytest.fixture
    def store(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> TrialStore:
        monkeypatch.setattr("learner.zarr_group.CHUNK_BYTES", 400)
        return TrialStore.open(root)


def group_of(root: Path, number: int, archive: str = "offline.zarr") -> Path:
    return root / archive / "trials" / trial_id_of(number)


def test_anyone_with_zarr_can_read_it(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    store.commit(make_trial(2, source=Source.ONLINE))
    store.commit(make_trial(3, source=Source.EVAL))
    offline, online = (zarr.open_group(root / f"{n}.zarr", mode="r") for n in ("offline", "online"))
    assert np.array_equal(
        offline[f"trials/{trial_id_of(1)}/observation/image.front"][...],
        make_trial(1).observations["image.front"],
    )
    assert sorted(online["trials"].group_keys()) == [trial_id_of(2), trial_id_of(3)]
    attributes = online[f"trials/{trial_id_of(3)}"].attrs
    assert attributes["header"]["provenance"]["source"] == "eval"
    assert attributes["digest"] == make_trial(3, source=Source.EVAL).digest()


# --- kills ------------------------------------------------------------------------------------

COMMIT = """
import sys
from pathlib import Path
from learner.store import TrialStore
from protos.trial import TrialRejected
from tests.learner.trials import make_trial, with_reward
store = TrialStore.open(Path(sys.argv[1]))
for number in (1, 2, 3):
    print(store.commit(make_trial(number)).ledger_seq, flush=True)
try:
    store.commit(with_reward(make_trial(3), 0.5))
except TrialRejected:
    print("refused", flush=True)
"""


def commit_in_process(root: Path, failpoint: str = "") -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", COMMIT, str(root)],
        cwd=ROOT,
        env={**os.environ, FAILPOINT_VARIABLE: failpoint},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(
    ("failpoint", "acknowledged", "stored"),
    [
        ("commit.written:2", 1, 1),
        ("commit.renamed:2", 1, 2),
        ("ledger.appended:2", 1, 2),
        ("quarantine.written", 3, 3),
        ("quarantine.renamed", 3, 3),
    ],
)
def test_a_kill_loses_nothing_and_doubles_nothing(
    root: Path, failpoint: str, acknowledged: int, stored: int
) -> None:
    code, output = commit_in_process(root, failpoint)
    assert code == -signal.SIGKILL
    assert len(output) == acknowledged
    store = TrialStore.open(root)
    known = [row.trial_id for row in store.iter_rows()]
    assert known == [trial_id_of(n) for n in range(1, stored + 1)]
    assert store.fsck().problems == ()
    assert list((root / "staging").iterdir()) == []
    store.close()
    code, output = commit_in_process(root)
    assert (code, output) == (0, ["1", "2", "3", "refused"])
    store = TrialStore.open(root)
    assert [row.trial_id for row in store.iter_rows()] == [trial_id_of(n) for n in (1, 2, 3)]
    assert len(store.ledger.quarantined()) == 1
    for number in (1, 2, 3):
        assert_same(store.load(trial_id_of(number)), make_trial(number))


def lose_the_row(root: Path, number: int) -> None:
    ledger = sqlite3.connect(root / "ledger.sqlite", isolation_level=None)
    ledger.execute("DELETE FROM trials WHERE trial_id = ?", (trial_id_of(number),))
    ledger.close()


def change_the_row(root: Path, number: int, change: str) -> None:
    ledger = sqlite3.connect(root / "ledger.sqlite", isolation_level=None)
    ledger.execute(f"UPDATE trials SET {change} WHERE trial_id = ?", (trial_id_of(number),))
    ledger.close()


def test_a_damaged_group_without_a_row_goes_to_quarantine(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    store.close()
    lose_the_row(root, 1)
    chunk = group_of(root, 1) / "observation" / "state" / "c.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    store = TrialStore.open(root)
    assert list(store.iter_rows()) == []
    assert [p.name.split(".")[0] for p in (root / "quarantine").iterdir()] == [trial_id_of(1)]
    assert not store.commit(make_trial(1)).is_duplicate
    assert_same(store.load(trial_id_of(1)), make_trial(1))


def test_a_group_under_another_trials_name_is_not_adopted(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    store.close()
    lose_the_row(root, 1)
    group_of(root, 1).rename(group_of(root, 2))
    store = TrialStore.open(root)
    assert list(store.iter_rows()) == []
    assert not group_of(root, 2).exists()


def test_a_row_that_could_not_be_written_is_made_up_for_at_the_next_try(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore.open(root)

    def no_space(_: object) -> int:
        raise StoreFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store.ledger, "append", no_space)
        with pytest.raises(StoreFull):
            store.commit(make_trial(1))
    assert list(store.iter_rows()) == []
    store.commit(make_trial(1))
    assert [row.trial_id for row in store.iter_rows()] == [trial_id_of(1)]
    assert store.fsck().problems == ()
    with pytest.raises(TrialRejected):
        store.commit(with_reward(make_trial(1), 0.5))


def test_every_file_is_on_the_disk_before_the_rename_and_the_row_comes_last(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore.open(root)
    events: list[str] = []
    real_fsync, real_rename, real_append = durable.fsync, Path.rename, store.ledger.append

    def fsync(path: Path) -> None:
        events.append(f"fsync {path.relative_to(root)}")
        real_fsync(path)

    def rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(path, target)

    def append(row: object) -> int:
        events.append("row")
        return real_append(row)

    monkeypatch.setattr(durable, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(store.ledger, "append", append)
    store.commit(make_trial(1))
    before, after = events[: events.index("rename")], events[events.index("rename") :]
    group = group_of(root, 1)
    staged = f"staging/.commit-{trial_id_of(1)}"
    expected = {
        f"fsync {staged}/{path.relative_to(group)}".removesuffix("/.")
        for path in [group, *group.rglob("*")]
    }
    assert set(before) == expected
    assert after == ["rename", "fsync offline.zarr/trials", "row"]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_an_adopted_group_has_its_name_on_the_disk_before_its_row(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, is_reopened: bool
) -> None:
    store = TrialStore.open(root)
    trials, real_fsync, real_append = root / "offline.zarr" / "trials", durable.fsync, Ledger.append

    def no_fsync_of_the_parent(path: Path) -> None:
        if path == trials:
            raise OSError(errno.EIO, "input/output error")
        real_fsync(path)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync", no_fsync_of_the_parent)
        with pytest.raises(OSError, match="input/output"):
            store.commit(make_trial(1))
    assert group_of(root, 1).exists()
    store.close()

    events: list[str] = []

    def fsync(path: Path) -> None:
        events.append(f"fsync {path.relative_to(root)}")
        real_fsync(path)

    def append(ledger: Ledger, row: TrialRow) -> int:
        events.append("row")
        return real_append(ledger, row)

    monkeypatch.setattr("learner.store.fsync", fsync)
    monkeypatch.setattr(Ledger, "append", append)
    if is_reopened:
        TrialStore.open(root).close()
    else:
        ledger = Ledger.open(root / "ledger.sqlite")
        TrialStore(root, ledger).commit(make_trial(1))
        ledger.close()
    assert events == ["fsync offline.zarr/trials", "row"]


# --- damage -----------------------------------------------------------------------------------


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


# --- beside a learner -------------------------------------------------------------------------


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


# --- full disk --------------------------------------------------------------------------------


def test_a_full_disk_changes_nothing_and_passes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write of each file in turn, and the rename, hit a full disk."""
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    real_write, left = durable._write, 0

    def write(path: Path, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            real_write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        real_write(path, data)

    monkeypatch.setattr(durable, "_write", write)
    for budget in (0, 1, 5, 36):
        left = budget
        with pytest.raises(StoreFull, match="no space left"):
            store.commit(make_trial(2))
        assert [row.trial_id for row in store.iter_rows()] == [trial_id_of(1)]
        assert list((root / "staging").iterdir()) == []
        assert store.fsck().problems == ()
    left = 1_000
    assert not store.commit(make_trial(2)).is_duplicate
    assert store.fsck().problems == ()


def commit_until_full(store: TrialStore, trials: list[Trial]) -> list[Trial]:
    stored = []
    for trial in trials:
        try:
            store.commit(trial)
        except StoreFull:
            return stored
        stored.append(trial)
    return stored


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_a_small_tmpfs_fills_up_and_the_store_goes_on_when_there_is_room(root: Path) -> None:
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(root)], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        store = TrialStore.open(root)
        spec = make_spec(image_size=84)
        trials = [make_trial(n, num_steps=25, spec=spec, is_noisy=True) for n in range(8)]
        ballast = root / "ballast"
        ballast.write_bytes(bytes(600_000))
        stored = commit_until_full(store, trials)
        assert 0 < len(stored) < len(trials)
        with pytest.raises(StoreFull):
            store.commit(trials[len(stored)])
        report = store.fsck()
        assert (report.num_trials, report.problems) == (len(stored), ())
        ballast.unlink()
        store.commit(trials[len(stored)])
        assert store.fsck().num_trials == len(stored) + 1
        assert_same(store.load(stored[0].trial_id), stored[0])
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


# --- who may open it --------------------------------------------------------------------------


def test_two_writers_exclude_each_other_and_readers_do_not(root: Path) -> None:
    writer = TrialStore.open(root)
    with pytest.raises(StoreLocked, match=f"in use by process {os.getpid()}"):
        TrialStore.open(root)
    reader = TrialStore.open(root, read_only=True)
    writer.commit(make_trial(1))
    assert_same(reader.load(trial_id_of(1)), make_trial(1))
    writer.close()
    TrialStore.open(root).close()


@pytest.mark.parametrize(
    "text",
    ['{"format": "offworld.store", "version": 9}', '{"format": "x", "version": 1}', "[1]", ""],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_another_version_is_refused_and_left_alone(
    root: Path, text: str, *, read_only: bool
) -> None:
    root.mkdir()
    (root / "store.json").write_text(text)
    with pytest.raises(StoreVersionMismatch, match=r"this program reads|not a store's"):
        TrialStore.open(root, read_only=read_only)
    assert {p.name for p in root.iterdir()} <= {"store.json", "writer.lock"}


def test_reading_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="no store at"):
        TrialStore.open(tmp_path, read_only=True)


def test_stats_count_by_source(root: Path) -> None:
    store = TrialStore.open(root)
    store.commit(make_trial(1))
    store.commit(make_trial(2, source=Source.ONLINE, num_steps=3))
    stats = store.stats()
    assert stats.num_trials == {"offline": 1, "online": 1, "eval": 0}
    assert (stats.num_steps, stats.num_aborted, stats.last_seq) == (8, 0, 2)


def test_the_store_does_not_load_torch() -> None:
    code = "import sys, learner.store, learner.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
