"""What the learner does when its trainer fails: trials are taken in all the same."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learner import ray_trainer
from learner.placement import NoMachineFits
from learner.ray_trainer import (
    RayConfig,
    RayNotStarted,
    TrainerFailed,
    WorkerState,
)
from learner.status import TrainerState, TrainerStatus
from services import learner
from services.learner_config import LearnerConfig
from services.process import CannotStart, write_aside
from services.store_view import StoreView
from tests.services.rig import wait_until


class FailingSupervisor:
    """Fails as often as it is told to, then runs until the learner stops."""

    reasons: list[str] = []
    refusals: list[RuntimeError | None] = []
    """What its starts raise; None where one goes well."""
    reports: Iterator[Callable[[], None]] | None = None
    """What the trainer writes, a report at each look after it."""
    num_started = num_stopped = 0

    def __init__(self, job: object, config: object) -> None:
        del job, config

    def start(self) -> None:
        type(self).num_started += 1
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal

    def poll(self, timeout_s: float) -> WorkerState:
        if self.reasons:
            raise TrainerFailed(self.reasons.pop(0))
        if self.reports is not None and (report := next(self.reports, None)):
            report()
        threading.Event().wait(timeout_s)
        return WorkerState.RUNNING

    def stop(self, timeout_s: float) -> bool:
        del timeout_s
        type(self).num_stopped += 1
        return True


class NoJob(LearnerConfig):
    """A configuration of which only the trainer's part is asked for."""

    def __init__(self, store: Path) -> None:
        object.__setattr__(self, "store", store)

    def job(self) -> Any:
        return None

    ray = RayConfig()


@pytest.fixture
def settings(tmp_path: Path) -> NoJob:
    return NoJob(tmp_path / "store")


def status_of(settings: NoJob) -> TrainerStatus:
    status = StoreView(settings.store).status()
    assert status is not None
    return status


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> type[FailingSupervisor]:
    monkeypatch.setattr(ray_trainer, "RaySupervisor", FailingSupervisor)
    monkeypatch.setattr(learner, "_FAILURE_BACKOFF_S", 0.0)
    monkeypatch.setattr(FailingSupervisor, "num_started", 0)
    monkeypatch.setattr(FailingSupervisor, "num_stopped", 0)
    return FailingSupervisor


def in_thread(
    settings: NoJob, verdict: learner._Verdict
) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def train() -> None:
        try:
            learner._train(settings, verdict)
        except (TrainerFailed, NoMachineFits, CannotStart) as error:
            raised.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    return thread, raised


def wait_for_starts(supervisor: type[FailingSupervisor], number: int) -> None:
    wait_until(lambda: supervisor.num_started == number, what=f"{number} starts")


def test_a_failed_trainer_is_started_again(
    settings: NoJob, supervisor: type[FailingSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "reasons", ["OperationalError: database is locked"] * 2)
    verdict = learner._Verdict(stop=threading.Event())
    thread, raised = in_thread(settings, verdict)
    wait_for_starts(supervisor, 3)
    verdict.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert raised == []
    assert supervisor.num_stopped == 3


def test_a_trainer_that_fails_always_is_given_up_but_not_the_learner(
    settings: NoJob, supervisor: type[FailingSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "reasons", ["DivergedError: not finite"] * 99)
    verdict = learner._Verdict(stop=threading.Event())
    thread, raised = in_thread(settings, verdict)
    wait_for_starts(supervisor, learner._MAX_FAILURES)
    thread.join(0.3)
    assert thread.is_alive(), "it must go on taking trials in until it is asked to stop"
    verdict.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [TrainerFailed]
    assert status_of(settings).state is TrainerState.FAILED
    assert status_of(settings).waiting_for == "DivergedError: not finite"
    assert supervisor.num_started == learner._MAX_FAILURES


def test_a_store_of_another_algorithm_cannot_start(
    settings: NoJob, supervisor: type[FailingSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "reasons", ["CheckpointMismatch: another algorithm"])
    verdict = learner._Verdict(stop=threading.Event())
    with pytest.raises(CannotStart, match="another algorithm"):
        learner._train(settings, verdict)


def test_ray_that_does_not_come_up_is_tried_for_as_long_as_it_takes(
    settings: NoJob,
    supervisor: type[FailingSupervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    num_tries = 2 * learner._MAX_FAILURES
    refusals = [RayNotStarted(f"nobody answers, {n}") for n in range(num_tries)]
    monkeypatch.setattr(supervisor, "refusals", refusals)
    verdict = learner._Verdict(stop=threading.Event())
    thread, raised = in_thread(settings, verdict)
    wait_for_starts(supervisor, num_tries + 1)
    verdict.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert raised == []
    assert supervisor.num_stopped == 1, "only one that was started is stopped"
    told = [r.getMessage() for r in caplog.records if "event=trainer_not_started" in r.getMessage()]
    assert len(told) == num_tries
    assert status_of(settings).state is TrainerState.FAILED
    assert status_of(settings).waiting_for == f"nobody answers, {num_tries - 1}"
    assert "reason=nobody answers, 0; trials are still taken in" in told[0]


def test_the_status_of_another_trainer_of_the_store_is_left_alone(
    settings: NoJob, supervisor: type[FailingSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "reasons", ["StoreLocked: in use by process 1"])
    verdict = learner._Verdict(stop=threading.Event())
    thread, _ = in_thread(settings, verdict)
    wait_for_starts(supervisor, 2)
    verdict.stop.set()
    thread.join(10)
    assert StoreView(settings.store).status() is None


def test_a_machine_that_is_too_small_cannot_start(
    settings: NoJob, supervisor: type[FailingSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "refusals", [NoMachineFits("Ray sees 2 CPUs")])
    with pytest.raises(CannotStart, match="Ray sees 2 CPUs"):
        learner._train(settings, learner._Verdict(stop=threading.Event()))
    assert supervisor.num_started == 1


@pytest.mark.parametrize(
    ("ray", "num_good_starts"),
    [(RayConfig(address="head:6379"), 0), (RayConfig(), 1)],
    ids=["a cluster", "a GPU that was there"],
)
def test_what_fits_nowhere_now_is_tried_again_where_it_may_fit_later(
    settings: NoJob,
    supervisor: type[FailingSupervisor],
    monkeypatch: pytest.MonkeyPatch,
    ray: RayConfig,
    num_good_starts: int,
) -> None:
    monkeypatch.setattr(NoJob, "ray", ray)
    refusals = [None] * num_good_starts + [NoMachineFits("Ray sees 2 CPUs")]
    monkeypatch.setattr(supervisor, "refusals", refusals)
    monkeypatch.setattr(supervisor, "reasons", ["RuntimeError: CUDA error"] * num_good_starts)
    verdict = learner._Verdict(stop=threading.Event())
    thread, raised = in_thread(settings, verdict)
    wait_for_starts(supervisor, num_good_starts + 2)
    verdict.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert raised == []


def test_what_the_trainer_waits_for_is_logged_once_a_change(
    settings: NoJob,
    supervisor: type[FailingSupervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs = settings.store / "logs"
    logs.mkdir(parents=True)
    verdict = learner._Verdict(stop=threading.Event())

    def report(state: TrainerState, waiting_for: str = "", num_updates: int = 0) -> None:
        status = TrainerStatus(
            state=state, waiting_for=waiting_for, num_updates=num_updates, pid=num_updates and 1
        )
        write_aside(logs / "trainer_status.json", json.dumps(dataclasses.asdict(status)))

    report(TrainerState.STOPPED, "of the last run")
    monkeypatch.setattr(learner, "_POLL_S", 0.0)
    reports = [
        lambda: None,
        lambda: report(TrainerState.WAITING, "offline trials, 0 of 1 are there", 1),
        lambda: report(TrainerState.WAITING, "offline trials, 0 of 1 are there", 2),
        lambda: report(TrainerState.PRETRAINING, num_updates=3),
        verdict.stop.set,
    ]
    monkeypatch.setattr(supervisor, "reports", iter(reports))
    with caplog.at_level(logging.INFO, "services.learner"):
        learner._train(settings, verdict)
    told = [r.getMessage() for r in caplog.records if "trainer_reports" in r.getMessage()]
    assert told == [
        "event=trainer_reports state=waiting waiting_for='offline trials, 0 of 1 are there'",
        "event=trainer_reports state=pretraining waiting_for=''",
    ]
