"""A store gives back what was committed, to readers too, and has one writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from learner.durable import StoreLocked
from learner.layout import StoreNotFound
from learner.ledger import StoreVersionMismatch
from learner.store import TrialStore
from protos.trial import Source
from tests.contracts.store import StoreContract, assert_same
from tests.learner import store_rig
from tests.learner.store_rig import ROOT
from tests.learner.trials import make_trial, trial_id_of

root = store_rig.root


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
