"""A trainer that ends goes on from its checkpoint, alone, and only if it is the same one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import pytest
import torch

from learner.checkpoint import CheckpointStore
from learner.durable import StoreLocked
from learner.run_state import CheckpointMismatch
from learner.status import TrainerState
from learner.store import TrialStore
from learner.trainer import Trainer
from protos.trial import Source
from tests.learner import trainer_bench
from tests.learner.tiny import TINY_CONFIG
from tests.learner.trainer_bench import run_until_waiting, status_of
from tests.learner.trials import make_spec, make_trial

one_thread = trainer_bench.one_thread
empty_store = trainer_bench.empty_store
store = trainer_bench.store
make = trainer_bench.make


def test_asked_to_stop_it_finishes_the_update_and_saves(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    trainer = make()
    trainer.run(lambda: trainer.algorithm.num_updates == 6)
    assert status_of(store).state is TrainerState.STOPPED
    again = make()
    assert again.progress.num_updates == 6
    run_until_waiting(again, store)
    assert again.algorithm.num_updates == 10


def test_the_same_weights_are_not_published_again_after_a_restart(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    trainer = make()
    trainer.run(lambda: status_of(store).state is TrainerState.WAITING)
    again = make()
    run_until_waiting(again, store)
    assert again.weights.versions() == [1]
    store.commit(make_trial(10, source=Source.ONLINE))
    run_until_waiting(again, store)
    assert again.weights.versions() == [1, 2]


def test_a_damaged_checkpoint_costs_updates_and_nothing_else(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    config = dataclasses.replace(TINY_CONFIG, checkpoint_every_updates=4)
    trainer = make(config)
    trainer.run(lambda: status_of(store).state is TrainerState.WAITING)
    newest = trainer.checkpoints.paths()[-1]
    (newest / "algorithm.safetensors").write_bytes(b"")
    again = make(config)
    assert again.progress.num_updates == 8
    run_until_waiting(again, store)
    assert again.algorithm.num_updates == 10
    assert torch.equal(again.algorithm.weight, trainer.algorithm.weight)


def test_two_trainers_exclude_each_other(store: TrialStore, make: Callable[..., Trainer]) -> None:
    trainer = make()
    with pytest.raises(StoreLocked, match="training in"):
        make()
    trainer.close()
    make()


def test_checkpoints_of_another_algorithm_or_robot_are_refused(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    make().run(lambda: (store.root / "checkpoints" / "latest").exists())
    with pytest.raises(CheckpointMismatch, match="another algorithm configuration"):
        make(policy_config='{"algorithm": "other"}')
    with pytest.raises(CheckpointMismatch, match="control_hz"):
        make(spec=dataclasses.replace(make_spec(), control_hz=20.0))
    assert status_of(store).state is TrainerState.FAILED
    make()


def test_another_schedule_may_go_on_from_a_checkpoint_and_it_is_logged(
    store: TrialStore, make: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make()
    trainer.run_until_settled()
    trainer.close()
    saved = CheckpointStore(store.root / "checkpoints").load_latest()
    assert saved.parts["trainer"]["config"] == dataclasses.asdict(TINY_CONFIG)
    with caplog.at_level(logging.INFO):
        longer = make(dataclasses.replace(TINY_CONFIG, num_pretrain_updates=13))
    assert "fields=num_pretrain_updates" in caplog.text
    longer.run_until_settled()
    assert longer.progress.num_updates == 13
