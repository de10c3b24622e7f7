"""What goes wrong is shown, and nothing that is not finite is saved or published."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from learner import durable
from learner.algorithms.base import DivergedError
from learner.durable import FolderLock, StoreFull, StoreLocked
from learner.status import TrainerState
from learner.store import TrialStore
from learner.trainer import Trainer
from learner.weights import WeightsNotFinite
from protos.trial import SpecMismatch
from tests.learner import trainer_bench
from tests.learner.tiny import TinyAlgorithm
from tests.learner.trainer_bench import run_until_waiting, status_of
from tests.learner.trials import make_spec, make_trial, trial_id_of

one_thread = trainer_bench.one_thread
empty_store = trainer_bench.empty_store
store = trainer_bench.store
make = trainer_bench.make


def test_a_state_that_is_not_finite_is_neither_saved_nor_published(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    algorithm = TinyAlgorithm()
    algorithm.is_broken = True
    trainer = make(algorithm=algorithm)
    with pytest.raises(DivergedError, match="update 5"):
        trainer.run(lambda: False)
    assert trainer.weights.versions() == []
    assert trainer.checkpoints.paths() == []
    assert status_of(store).state is TrainerState.FAILED
    assert "not finite" in status_of(store).waiting_for


def test_an_error_of_any_kind_is_shown(
    store: TrialStore, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Trainer]
) -> None:
    def update(_batch: object) -> None:
        raise RuntimeError("CUDA out of memory")

    trainer = make()
    monkeypatch.setattr(trainer.algorithm, "update", update)
    with pytest.raises(RuntimeError, match="CUDA"):
        trainer.run(lambda: False)
    assert status_of(store).state is TrainerState.FAILED
    assert status_of(store).waiting_for == "CUDA out of memory"


def test_weights_that_are_not_finite_are_not_published(
    store: TrialStore, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Trainer]
) -> None:
    trainer = make()
    bad = {"weight": torch.tensor([1.0, float("inf")])}
    monkeypatch.setattr(trainer.algorithm, "actor_tensors", lambda: bad)
    with pytest.raises(WeightsNotFinite, match="weight"):
        trainer.run(lambda: False)
    assert trainer.weights.versions() == []


def test_a_damaged_trial_is_skipped_and_counted(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    chunk = store.root / "offline.zarr" / "trials" / trial_id_of(2) / "step" / "reward" / "c.0"
    chunk.write_bytes(b"")
    trainer = make()
    run_until_waiting(trainer, store)
    status = status_of(store)
    assert (status.num_offline_trials, status.num_unreadable_trials) == (3, 1)
    assert trainer.algorithm.num_updates == 10


def test_a_trial_of_another_spec_stops_it_with_the_difference(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    spec = dataclasses.replace(make_spec(), control_hz=20.0)
    store.commit(make_trial(30, spec=spec))
    with pytest.raises(SpecMismatch, match="control_hz: 10.0 here, 20.0 there"):
        make().run(lambda: False)
    assert "control_hz" in status_of(store).waiting_for


def test_a_full_disk_is_waited_out(
    store: TrialStore, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Trainer]
) -> None:
    trainer = make()

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_write", full)
        for _ in range(40):
            trainer.step()
    assert trainer.algorithm.num_updates == 10
    assert trainer.weights.versions() == []
    trainer.step()
    assert "no space left" in status_of(store).waiting_for
    for _ in range(10_000):
        trainer.step()
        if trainer.checkpoints.paths():
            break
    assert trainer.weights.versions() == [1]
    trainer.step()
    assert status_of(store).waiting_for == "online trials"


def test_a_full_disk_at_the_start_is_no_failure(
    store: TrialStore, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Trainer]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("learner.trainer.Metrics", full)
        with pytest.raises(StoreFull):
            make()
    assert status_of(store).state is TrainerState.WAITING
    assert status_of(store).waiting_for == "no space left"
    make()


def test_a_lock_holds_on_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = FolderLock(tmp_path / "lock", "this")
    with pytest.raises(StoreLocked, match="in use by process unknown"):
        FolderLock(tmp_path / "lock", "this")
    lock.release()
    FolderLock(tmp_path / "lock", "this").release()
