"""A trainer that is killed and resumed, and one like it that never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from learner.checkpoint import Checkpoint, CheckpointStore
from learner.durable import FAILPOINT_VARIABLE
from learner.store import TrialStore
from learner.trainer_config import ReplayConfig, TrainerConfig, TrainerJob
from protos.trial import Source
from tests.learner.tiny import make_fowm_job
from tests.learner.trials import make_trial

ROOT = Path(__file__).parents[2]
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
