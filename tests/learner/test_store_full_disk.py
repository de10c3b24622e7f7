"""A full disk changes nothing in the store, and passes."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from learner import durable
from learner.durable import StoreFull
from learner.store import TrialStore
from protos.trial import Trial
from tests.contracts.store import assert_same
from tests.learner import store_rig
from tests.learner.trials import make_spec, make_trial, trial_id_of

root = store_rig.root


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
