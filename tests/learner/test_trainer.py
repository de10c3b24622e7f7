"""The loop: what is owed, when weights are published, and that a kill changes nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learner import durable
from learner.algorithms.base import DivergedError
from learner.checkpoint import Checkpoint, CheckpointStore
from learner.durable import FAILPOINT_VARIABLE, FolderLock, StoreFull, StoreLocked
from learner.run_state import CheckpointMismatch
from learner.status import TrainerState, read_status
from learner.store import TrialStore
from learner.trainer import Trainer
from learner.trainer_config import ReplayConfig, TrainerConfig, TrainerJob
from learner.training import build_trainer
from learner.weights import WeightsNotFinite
from protos.trial import Outcome, Source, SpecMismatch
from tests.learner.test_checkpoint import assert_equal
from tests.learner.tiny import (
    TINY_CONFIG,
    TickingClock,
    TinyAlgorithm,
    make_fowm_job,
    make_tiny_trainer,
)
from tests.learner.trials import make_spec, make_trial, trial_id_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
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


# --- accounts ---------------------------------------------------------------------------------


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


# --- stopping and going on --------------------------------------------------------------------


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


# --- what can go wrong ------------------------------------------------------------------------


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


# --- bit for bit ------------------------------------------------------------------------------

RESUME = """
import sys
import torch
from learner.trainer_config import TrainerJob
from learner.training import build_trainer
trainer = build_trainer(TrainerJob.from_json(open(sys.argv[1]).read()))
trainer.run(lambda: trainer.progress.num_updates == 200)
"""


def train_in_process(job: TrainerJob, path: Path, failpoint: str = "") -> int:
    path.write_text(job.to_json())
    done = subprocess.run(
        [sys.executable, "-c", RESUME, str(path)],
        cwd=ROOT,
        env={**os.environ, FAILPOINT_VARIABLE: failpoint, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def train_straight_and_killed(folder: Path) -> tuple[Checkpoint, Checkpoint]:
    """200 updates at once; and 100, SIGKILL during the next checkpoint, resumed, 100 more."""
    config = TrainerConfig(
        num_pretrain_updates=60,
        updates_per_trial=50,
        updates_per_step=None,
        batch_size=8,
        checkpoint_every_updates=50,
        checkpoint_every_s=1e6,
        is_tensorboard_on=False,
        log_every_updates=20,
        num_threads=1,
        replay=ReplayConfig(online_capacity_steps=20),
    )
    jobs = []
    for name in ("straight", "killed"):
        job = make_fowm_job(str(folder / name), config)
        jobs.append(job)
        store = TrialStore.open(Path(job.store))
        for number in range(8):
            is_online = number >= 4
            store.commit(
                make_trial(
                    number,
                    num_steps=6 + number % 3,
                    spec=job.spec,
                    is_noisy=True,
                    source=Source.ONLINE if is_online else Source.OFFLINE,
                )
            )
        store.close()
    assert train_in_process(jobs[0], folder / "job.json") == 0
    # The third checkpoint is the one of update 150, so 100 is the newest that is whole.
    code = train_in_process(jobs[1], folder / "job.json", "checkpoint.written:3")
    assert code == -signal.SIGKILL
    assert CheckpointStore(Path(jobs[1].store) / "checkpoints").load_latest().num_updates == 100
    assert train_in_process(jobs[1], folder / "job.json") == 0
    straight, killed = (
        CheckpointStore(Path(job.store) / "checkpoints").load_latest() for job in jobs
    )
    assert straight is not None
    assert killed is not None
    return straight, killed


def test_killed_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    straight, killed = train_straight_and_killed(tmp_path)
    assert straight.num_updates == killed.num_updates == 200
    assert_equal(straight.parts["algorithm"], killed.parts["algorithm"])
    assert_equal(straight.parts["replay"], killed.parts["replay"])
    assert_equal(straight.parts["trainer"], killed.parts["trainer"])
    files = [
        json.loads((c.path / "manifest.json").read_text())["files"] for c in (straight, killed)
    ]
    assert files[0] == files[1]
    assert len(straight.parts["replay"]["online"]["trials"]) == 2, "old online trials have left"


def test_a_job_comes_back_from_its_text_and_nothing_else_does(tmp_path: Path) -> None:
    job = make_fowm_job(str(tmp_path), TINY_CONFIG)
    assert TrainerJob.from_json(job.to_json()) == job
    raw = json.loads(job.to_json())
    for change in ({"surprise": 1}, {"trainer": {**raw["trainer"], "lr": 1}}):
        with pytest.raises(ValueError, match="unknown"):
            TrainerJob.from_json(json.dumps(raw | change))
    del raw["seed"]
    with pytest.raises(ValueError, match=r"missing \['seed'\]"):
        TrainerJob.from_json(json.dumps(raw))


def test_a_job_builds_a_trainer_whose_weights_a_policy_takes(tmp_path: Path) -> None:
    from learner.algorithms.registry import make_policy, policy_config_from_json

    job = make_fowm_job(str(tmp_path / "store"), dataclasses.replace(TINY_CONFIG, num_threads=1))
    store = TrialStore.open(Path(job.store))
    for number in range(3):
        store.commit(make_trial(number, spec=job.spec, is_noisy=True))
    trainer = build_trainer(job, clock=TickingClock())
    trainer.run_until_settled()
    trainer.close()
    manifest = trainer.weights.latest()
    policy = make_policy(policy_config_from_json(manifest.policy_config), job.spec, "cpu", 0)
    policy.load(trainer.weights.load(manifest.version))
    decision = policy.act(
        {k: v[0] for k, v in make_trial(0, spec=job.spec).observations.items()}, is_eval=True
    )
    assert np.isfinite(decision.action).all()
    assert manifest.spec_digest == job.spec.digest()


@pytest.mark.gpu
def test_on_a_gpu_it_trains_and_goes_on_with_frames_there_too(tmp_path: Path) -> None:
    job = make_fowm_job(str(tmp_path / "store"), dataclasses.replace(TINY_CONFIG, num_threads=1))
    job = dataclasses.replace(job, device="cuda")
    store = TrialStore.open(Path(job.store))
    for number in range(6):
        source = Source.ONLINE if number > 3 else Source.OFFLINE
        store.commit(make_trial(number, spec=job.spec, is_noisy=True, source=source))
    for num_updates in (18, 22):
        trainer = build_trainer(job)
        assert trainer.replay.device.type == "cuda"
        trainer.run_until_settled()
        trainer.close()
        assert trainer.progress.num_updates == num_updates
        assert trainer.weights.latest().train_step == num_updates
        store.commit(make_trial(10, spec=job.spec, is_noisy=True, source=Source.ONLINE))
    for device in ("cpu", "cuda"):  # frames, or all of it, elsewhere than before
        config = dataclasses.replace(job.trainer, replay_device="cpu")
        trainer = build_trainer(dataclasses.replace(job, device=device, trainer=config))
        assert trainer.progress.num_updates == 22
        trainer.algorithm.update(
            trainer._mixture.sample(8, generator=trainer._run.generator).to(device)
        )
        trainer.close()


@pytest.mark.parametrize(
    "change",
    [
        {"updates_per_trial": 4, "updates_per_step": 1.0},
        {"updates_per_trial": None, "updates_per_step": None},
        {"updates_per_step": -1.0},
        {"updates_per_step": float("nan")},
        {"num_pretrain_updates": -1},
        {"batch_size": 0},
        {"online_batch_fraction": 1.5},
        {"poll_s": 0.0},
        {"checkpoint_every_updates": 0},
        {"replay_device": "tpu"},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainerConfig(**change)
