"""The trainer makes the updates that it owes, and publishes weights once for what they learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from learner.store import TrialStore
from learner.trainer import Trainer
from protos.trial import Outcome, Source
from tests.learner import trainer_bench
from tests.learner.tiny import TINY_CONFIG
from tests.learner.trainer_bench import run_until_waiting, status_of
from tests.learner.trials import make_trial

one_thread = trainer_bench.one_thread
empty_store = trainer_bench.empty_store
store = trainer_bench.store
make = trainer_bench.make


def test_pretrains_then_owes_updates_for_each_online_trial(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    trainer = make()
    run_until_waiting(trainer, store)
    assert trainer.algorithm.num_updates == 10
    assert status_of(store).waiting_for == "online trials"
    assert set(trainer.algorithm.fractions) == {0.0}
    for number in (10, 11, 12):
        store.commit(make_trial(number, source=Source.ONLINE))
    store.commit(make_trial(20, source=Source.EVAL))
    store.commit(make_trial(21, source=Source.ONLINE, outcome=Outcome.ABORTED))
    run_until_waiting(trainer, store)
    assert trainer.algorithm.num_updates == 10 + 3 * 4
    assert set(trainer.algorithm.fractions[10:]) == {0.5}
    status = status_of(store)
    assert (status.num_offline_trials, status.num_online_trials) == (4, 3)
    assert (status.ledger_seq, status.settled_seq, status.updates_owed) == (9, 9, 0)


def test_updates_per_step_follow_the_length_of_trials(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    config = dataclasses.replace(TINY_CONFIG, updates_per_trial=None, updates_per_step=0.5)
    trainer = make(config)
    store.commit(make_trial(10, num_steps=7, source=Source.ONLINE))
    store.commit(make_trial(11, num_steps=4, source=Source.ONLINE))
    run_until_waiting(trainer, store)
    assert trainer.algorithm.num_updates == 10 + 5


def test_the_control_makes_its_extra_updates_without_online_data(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    config = dataclasses.replace(TINY_CONFIG, extra_offline_updates=7)
    trainer = make(config)
    run_until_waiting(trainer, store)
    assert trainer.algorithm.num_updates == 17
    assert set(trainer.algorithm.fractions) == {0.0}
    assert [trainer.weights.manifest(v).train_step for v in trainer.weights.versions()] == [10, 17]


def test_trials_that_arrive_while_it_pretrains_are_trained_on_after(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    store.commit(make_trial(10, source=Source.ONLINE))
    trainer = make()
    run_until_waiting(trainer, store)
    assert trainer.algorithm.fractions == [0.0] * 10 + [0.5] * 4
    manifests = [trainer.weights.manifest(v) for v in trainer.weights.versions()]
    assert [(m.train_step, m.ledger_seq) for m in manifests] == [(10, 0), (14, 5)]


def test_it_waits_for_offline_trials_and_says_so(
    empty_store: TrialStore, make: Callable[..., Trainer]
) -> None:
    store = empty_store
    config = dataclasses.replace(TINY_CONFIG, min_offline_trials=3)
    trainer = make(config)
    for number in range(2):
        store.commit(make_trial(number))
    run_until_waiting(trainer, store)
    assert status_of(store).waiting_for == "offline trials, 2 of 3 are there"
    assert trainer.algorithm.num_updates == 0
    with pytest.raises(RuntimeError, match="2 of 3"):
        trainer.run_until_settled()
    store.commit(make_trial(2))
    trainer.step()
    trainer.step()
    assert trainer.algorithm.num_updates > 0
    assert trainer.algorithm.ranges["state"][1].tolist() == [2, 5, 0, 0]


def test_without_pretraining_weights_are_there_before_the_first_trial(
    empty_store: TrialStore, make: Callable[..., Trainer]
) -> None:
    store = empty_store
    config = dataclasses.replace(TINY_CONFIG, num_pretrain_updates=0)
    trainer = make(config)
    run_until_waiting(trainer, store)
    assert trainer.weights.latest_version() == 1
    store.commit(make_trial(10, source=Source.ONLINE))
    run_until_waiting(trainer, store)
    assert trainer.algorithm.fractions == [1.0] * 4
    assert trainer.weights.latest().ledger_seq == 1


def test_a_long_debt_publishes_on_the_way(store: TrialStore, make: Callable[..., Trainer]) -> None:
    config = dataclasses.replace(TINY_CONFIG, publish_every_updates=4, updates_per_trial=9)
    store.commit(make_trial(10, source=Source.ONLINE))
    trainer = make(config)
    run_until_waiting(trainer, store)
    manifests = [trainer.weights.manifest(v) for v in trainer.weights.versions()]
    assert [m.train_step for m in manifests] == [4, 8, 10, 14, 18, 19]
    assert [m.ledger_seq for m in manifests] == [0, 0, 0, 0, 0, 5]


def test_evaluation_trials_do_not_make_a_new_version(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    trainer = make()
    run_until_waiting(trainer, store)
    store.commit(make_trial(20, source=Source.EVAL))
    run_until_waiting(trainer, store)
    assert trainer.weights.versions() == [1]
    assert status_of(store).settled_seq == 5


def test_driven_in_one_call_it_settles_publishes_and_saves(
    store: TrialStore, make: Callable[..., Trainer]
) -> None:
    store.commit(make_trial(10, source=Source.ONLINE))
    trainer = make()
    trainer.run_until_settled()
    assert trainer.progress.num_updates == 14
    assert trainer.weights.latest().train_step == 14
    assert trainer.checkpoints.load_latest().num_updates == 14


def test_priorities_are_written_back(store: TrialStore, make: Callable[..., Trainer]) -> None:
    trainer = make()
    trainer.run_until_settled()
    live = trainer.replay.offline.priority[trainer.replay.offline.priority > 0]
    assert len(live) == 20
    assert len(set(live.tolist())) > 10
