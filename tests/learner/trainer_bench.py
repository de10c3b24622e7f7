"""A store of four trials, trainers of the tiny algorithm on it, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.status import TrainerState, read_status
from learner.store import TrialStore
from learner.trainer import Trainer
from learner.trainer_config import TrainerConfig
from tests.learner.tiny import TINY_CONFIG, make_tiny_trainer
from tests.learner.trials import make_trial


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def empty_store(tmp_path: Path) -> Iterator[TrialStore]:
    store = TrialStore.open(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def store(empty_store: TrialStore) -> TrialStore:
    for number in range(4):
        empty_store.commit(make_trial(number))
    return empty_store


@pytest.fixture
def make(empty_store: TrialStore) -> Iterator[Callable[..., Trainer]]:
    """Makes trainers of the tiny algorithm on the store, and closes them."""
    made: list[Trainer] = []

    def make(config: TrainerConfig = TINY_CONFIG, **change: Any) -> Trainer:
        made.append(make_tiny_trainer(empty_store, config, **change))
        return made[-1]

    yield make
    for trainer in made:
        trainer.close()


def status_of(store: TrialStore) -> Any:
    status = read_status(store.root / "logs" / "trainer_status.json")
    assert status is not None
    return status


def run_until_waiting(trainer: Trainer, store: TrialStore) -> None:
    """Steps until the trainer has nothing to do; fails if that takes too long."""
    for _ in range(10_000):
        trainer.step()
        if status_of(store).state is TrainerState.WAITING:
            return
    raise AssertionError("the trainer never waits")
