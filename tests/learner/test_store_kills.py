"""A kill at any step of a commit loses no trial and doubles none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from learner import durable
from learner.durable import FAILPOINT_VARIABLE, StoreFull
from learner.ledger import Ledger, TrialRow
from learner.store import TrialStore
from protos.trial import TrialRejected
from tests.contracts.store import assert_same
from tests.learner import store_rig
from tests.learner.store_rig import ROOT, group_of, lose_the_row
from tests.learner.trials import make_trial, trial_id_of, with_reward

root = store_rig.root

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
