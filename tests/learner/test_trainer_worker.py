"""The process that trains: whatever ends it is told where others look."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from learner import durable, training
from learner.durable import StoreFull, StoreLocked
from learner.status import TrainerState, TrainerStatus, note_failure, read_status
from learner.store import TrialStore
from learner.trainer_config import TrainerConfig, TrainerJob
from learner.trainer_worker import TrainerWorker
from tests.learner.tiny import make_fowm_job

CONFIG = TrainerConfig(is_tensorboard_on=False, num_threads=1)
BEFORE = TrainerStatus(
    state=TrainerState.FINETUNING, num_updates=50, weights_version=2, ledger_seq=7, pid=1, unix_ns=1
)


@pytest.fixture
def job(tmp_path: Path) -> TrainerJob:
    job = make_fowm_job(str(tmp_path / "store"), CONFIG, image_size=16)
    TrialStore.open(Path(job.store)).close()
    status_file(job).write_text(json.dumps(dataclasses.asdict(BEFORE)))
    return job


def status_file(job: TrainerJob) -> Path:
    return Path(job.store) / "logs" / "trainer_status.json"


def run_with(job: TrainerJob, error: Exception, monkeypatch: pytest.MonkeyPatch) -> TrainerStatus:
    """Runs a worker that cannot build its trainer; returns what it reports then."""

    def build(*_: Any) -> None:
        raise error

    monkeypatch.setattr(training, "build_trainer", build)
    with pytest.raises(type(error)):
        TrainerWorker(job.to_json()).run()
    status = read_status(status_file(job))
    assert status is not None
    return status


def test_a_failure_before_there_is_a_trainer_is_shown(
    job: TrainerJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = run_with(job, RuntimeError("CUDA out of memory"), monkeypatch)
    assert status.state is TrainerState.FAILED
    assert status.waiting_for == "RuntimeError: CUDA out of memory"
    assert (status.num_updates, status.weights_version, status.ledger_seq) == (50, 2, 7)
    assert status.unix_ns > BEFORE.unix_ns


def test_a_worker_that_finds_another_trainer_leaves_its_report_alone(
    job: TrainerJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learner.trainer_worker.LOCK_WAIT_S", 0.0)
    assert run_with(job, StoreLocked("in use by process 1"), monkeypatch) == BEFORE


@pytest.mark.parametrize("is_freed", [True, False], ids=["room is made", "asked to stop"])
def test_a_disk_that_is_full_at_the_start_is_waited_for(
    job: TrainerJob, monkeypatch: pytest.MonkeyPatch, is_freed: bool
) -> None:
    def write(_path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def build(*_: Any) -> Any:
        tries.append("build")
        if len(tries) < 10:
            raise StoreFull("no space left while writing metrics.jsonl")
        if is_freed:
            return SimpleNamespace(run=lambda _should_stop: tries.append("run"))
        worker.stop()
        raise StoreFull("still")

    tries, worker = list[str](), TrainerWorker(job.to_json())
    monkeypatch.setattr(durable, "_write", write)
    monkeypatch.setattr(training, "build_trainer", build)
    monkeypatch.setattr("learner.trainer_worker.RETRY_FULL_DISK_S", 0.0)
    worker.run()
    assert tries == ["build"] * 10 + ["run"] * is_freed
    assert read_status(status_file(job)) == BEFORE


def test_a_failure_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("not a folder")
    note_failure(tmp_path / "logs" / "trainer_status.json", "no reason")
    assert "trainer_status_not_written" in caplog.text
