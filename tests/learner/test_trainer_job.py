"""A job makes the same trainer wherever it is read, to the last bit also after a kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learner.store import TrialStore
from learner.trainer_config import TrainerConfig, TrainerJob
from learner.training import build_trainer
from protos.trial import Source
from tests.learner import trainer_bench
from tests.learner.killed_trainer import train_straight_and_killed
from tests.learner.test_checkpoint import assert_equal
from tests.learner.tiny import TINY_CONFIG, TickingClock, make_fowm_job
from tests.learner.trials import make_trial

one_thread = trainer_bench.one_thread


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
