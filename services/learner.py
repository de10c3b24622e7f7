"""`offworld learner`: starts the ingress and the trainer's worker, and watches over both.

The ingress comes first and depends on nothing else: trials are taken while Ray starts, and while
the trainer is away. The two share the store's folder, and nothing besides.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from learner import layout
from learner.durable import FolderLock, StoreLocked
from learner.ledger import StoreVersionMismatch
from learner.status import TrainerState, note_failure, read_status
from services.config import ConfigError
from services.config_text import to_toml
from services.ingress_process import (
    ADDRESS_FILE,
    START_WAIT_S,
    IngressProcess,
    ingress_command,
)
from services.logs import configure_logging
from services.process import CannotStart, ExitCode, stop_on_signals, write_aside

if TYPE_CHECKING:
    from learner.ray_trainer import RaySupervisor
    from services.learner_config import LearnerConfig

logger = logging.getLogger(__name__)

STOP_TRAINER_S = 12.0
"""How long the trainer may take to finish its update and save. [s]"""
_POLL_S = 0.2
_MAX_FAILURES = 5
"""So many failures of the trainer, each soon after its start, end the attempts."""
_FAILURE_BACKOFF_S = 5.0
_LONGEST_BACKOFF_S = 60.0
_STEADY_S = 600.0
_CANNOT_GO_ON = ("CheckpointMismatch", "SpecMismatch")
"""Errors of the trainer that mean that configuration and store do not belong together."""


@dataclass
class _Verdict:
    """Why the learner ends, if it has to; set from any thread."""

    stop: threading.Event
    failure: CannotStart | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, error: CannotStart) -> None:
        with self.lock:
            self.failure = self.failure or error
        self.stop.set()


def run_learner(config: LearnerConfig, stop: threading.Event | None = None) -> int:
    """Runs a learner until it is asked to stop; returns the exit code.

    Args:
        config: Everything about it.
        stop: Ends it when set; by default SIGTERM and SIGINT do.

    Raises:
        CannotStart: Another learner has the store, it is of another version, the port is in use, or
            what was trained before does not fit this configuration.
    """
    root = config.store.absolute()
    if stop is None:
        stop = threading.Event()
        stop_on_signals(stop)
    verdict = _Verdict(stop=stop)
    lock = _claim(root)
    try:
        _write_run_files(config, root)
        port_file = root / ADDRESS_FILE
        command = ingress_command(
            store=root,
            lease_ttl_s=config.limits.lease_ttl_s,
            reserve_mib=config.limits.reserve_mib,
            max_trial_mib=config.limits.max_trial_mib,
            port_file=port_file,
            start_wait_s=START_WAIT_S,
            security=config.security,
        )
        ingress = IngressProcess(
            command, listen=config.listen, port_file=port_file, on_failure=verdict.fail
        )
        ingress.start()
        try:
            while ingress.address is None and not stop.wait(_POLL_S):
                pass
            if not stop.is_set():
                logger.info("event=serving address=%s store=%s", ingress.address, root)
                _train(config, verdict)
        finally:
            ingress.stop()
    finally:
        (root / "run" / "learner.pid").unlink(missing_ok=True)
        lock.release()
    if verdict.failure is not None:
        raise verdict.failure
    logger.info("event=stopped store=%s", root)
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    from services import learner_config

    config = learner_config.load(sys.argv[1:] if argv is None else argv)
    configure_logging("learner")
    return run_learner(config)


def _claim(root: Path) -> FolderLock:
    """Makes the store's folder ours, before anything in it is touched."""
    (root / "run").mkdir(parents=True, exist_ok=True)
    try:
        lock = FolderLock(root / "run" / "learner.lock", f"the store {root}")
        if (root / "store.json").exists():
            layout.check_version(root)
    except (StoreLocked, StoreVersionMismatch) as error:
        raise CannotStart(str(error)) from error
    return lock


def _write_run_files(config: LearnerConfig, root: Path) -> None:
    try:
        job = config.job()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    write_aside(root / "config.toml", to_toml(config))
    write_aside(root / "run" / "spec.json", config.spec.to_json())
    write_aside(root / "run" / "policy.json", job.policy_config)
    write_aside(root / "run" / "learner.pid", f"{os.getpid()}\n")


def _train(config: LearnerConfig, verdict: _Verdict) -> None:
    """Keeps the trainer running until it is time to stop; trials are taken in all the while.

    Raises:
        CannotStart: Configuration and store do not belong together, or this machine does not have
            what is asked for.
        TrainerFailed: It failed again and again; raised only once a stop is asked for.
    """
    from learner.placement import NoMachineFits
    from learner.ray_trainer import RayNotStarted, TrainerFailed

    num_failures = num_in_vain = 0
    has_run = False
    while not verdict.stop.is_set():
        began_s = time.monotonic()
        try:
            supervisor = _start(config)
            num_in_vain, has_run = 0, True
            _supervise(supervisor, _Reports(_status_file(config)), verdict)
        except (NoMachineFits, RayNotStarted) as error:
            if isinstance(error, NoMachineFits) and config.ray.address is None and not has_run:
                raise CannotStart(str(error)) from error
            # Never given up: a cluster comes back, or grows, with nobody looking at its learners.
            num_in_vain += 1
            wait_s = min(_FAILURE_BACKOFF_S * num_in_vain, _LONGEST_BACKOFF_S)
            _note_failure(config, error)
            logger.error(
                "event=trainer_not_started reason=%s; trials are still taken in again_in_s=%.0f",
                error,
                wait_s,
            )
            verdict.stop.wait(wait_s)
        except TrainerFailed as error:
            if str(error).startswith(_CANNOT_GO_ON):
                raise CannotStart(str(error)) from error
            _note_failure(config, error)
            is_early = time.monotonic() - began_s < _STEADY_S
            num_failures = num_failures + 1 if is_early else 1
            if num_failures < _MAX_FAILURES:
                wait_s = _FAILURE_BACKOFF_S * num_failures
                logger.error("event=trainer_failed reason=%s again_in_s=%.0f", error, wait_s)
                verdict.stop.wait(wait_s)
            else:
                logger.error(
                    "event=trainer_given_up failures=%d reason=%s; trials are still taken in, "
                    "restart the learner once this is mended",
                    num_failures,
                    error,
                )
                verdict.stop.wait()
                raise


def _note_failure(config: LearnerConfig, error: RuntimeError) -> None:
    """Says it to whoever waits for weights, also where the trainer did not live to do so."""
    if not str(error).startswith("StoreLocked"):  # the status is another trainer's then
        note_failure(_status_file(config), str(error))


def _status_file(config: LearnerConfig) -> Path:
    return config.store.absolute() / "logs" / "trainer_status.json"


def _start(config: LearnerConfig) -> RaySupervisor:
    from learner.ray_trainer import RaySupervisor

    supervisor = RaySupervisor(config.job(), config.ray)
    supervisor.start()
    return supervisor


def _supervise(supervisor: RaySupervisor, reports: _Reports, verdict: _Verdict) -> None:
    """Watches one trainer until it is time to stop, or until it fails; ends it."""
    from learner.ray_trainer import TrainerFailed, WorkerState

    state = None
    try:
        while not verdict.stop.is_set():
            now = supervisor.poll(_POLL_S)
            if now is not state:
                logger.info("event=trainer state=%s", now.value)
                state = now
            reports.tell_news()
            if now is WorkerState.STOPPED:
                raise TrainerFailed("the trainer ended by itself")
            if now is WorkerState.RESTARTING:
                verdict.stop.wait(_POLL_S)
    finally:
        _stop(supervisor)


class _Reports:
    """Says in the log what the trainer does and waits for, once a change; not what it did before.

    Args:
        path: The trainer's status file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = self._look()

    def tell_news(self) -> None:
        """Logs the report of now, unless it says what was said."""
        news = self._look()
        if news != self._told and news is not None:
            _, state, waiting_for = news
            logger.info("event=trainer_reports state=%s waiting_for=%r", state, waiting_for)
        self._told = news or self._told

    def _look(self) -> tuple[int, TrainerState, str] | None:
        status = read_status(self._path)
        return None if status is None else (status.pid, status.state, status.waiting_for)


def _stop(supervisor: RaySupervisor) -> None:
    if not supervisor.stop(STOP_TRAINER_S):
        logger.warning("event=trainer_killed waited_s=%.0f", STOP_TRAINER_S)


if __name__ == "__main__":
    raise SystemExit(main())
