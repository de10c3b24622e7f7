"""A real actor beside a real ingress: processes, a spool and a store to compare afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import numpy as np

from learner.ledger import TrialRow
from learner.store import TrialStore
from protos.trial import Outcome, Trial
from robot.sim.config import SimConfig
from services.actor_config import ActorConfig, ActorRun
from services.actor_robot import robot_spec
from services.config_text import to_toml
from services.ring_memory import Ring
from services.spool_audit import SpoolTrial, read_spool
from tests.services.rig import ROOT, IngressProcess, wait_until

QUICK = SimConfig(control_hz=50.0, max_steps=10, image_size=40)


def make_config(folder: Path, learner: str, **changes: object) -> ActorConfig:
    """Returns a counting robot that needs no model; its trials take a fifth of a second."""
    values: dict[str, object] = {
        "learner": learner,
        "actor_id": "counter",
        "robot": "counting",
        "sim": QUICK,
        "spool": folder / "spool",
        "reserve_bytes": 1 << 20,
        "trials": 5,
        "policy": "random",
        "exit_when_done": True,
        "num_threads": 1,
        "max_missed_in_a_row": 1000,
    }
    return ActorConfig(**(values | changes))  # type: ignore[arg-type]


class ActorProcess:
    """`offworld actor` on a configuration of its own.

    Args:
        folder: Gets the configuration and the log, appended.
        config: What to do.
    """

    def __init__(self, folder: Path, config: ActorConfig) -> None:
        self.config = config
        self.log = folder / "actor.log"
        file = folder / "actor.toml"
        file.write_text(to_toml(config))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "actor", "--config", str(file)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    @property
    def run(self) -> Path:
        return self.config.spool / "run"

    def pid_of(self, name: str) -> int | None:
        """Returns the id of `actor`, `loop` or `recorder`; None while it does not run."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.run / f"{name}.pid").read_text())
        return None

    def ring(self) -> Ring:
        """Maps the ring of the run that is on."""
        wait_until(
            lambda: self._has_started() or self.process.poll() is not None,
            timeout_s=60.0,
            what="the actor starts",
        )
        assert self.process.poll() is None, self.log_text()
        return Ring(ActorRun.read(self.run / "actor.toml").ring)

    def _has_started(self) -> bool:
        file = self.run / "actor.toml"
        is_ours = file.exists() and ActorRun.read(file).parent_pid == self.process.pid
        return is_ours and self.pid_of("loop") is not None

    def kill(self, name: str) -> bool:
        """Kills one process with SIGKILL; False if it did not run."""
        pid = self.pid_of(name)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def stop(self, *, timeout_s: float = 15.0) -> int:
        """Asks it to end; returns its exit code."""
        self.process.terminate()
        return self.process.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Waits for its end; returns its exit code."""
        return self.process.wait(timeout_s)

    def log_text(self) -> str:
        return self.log.read_text()

    def __enter__(self) -> ActorProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            sys.stdout.write(self.log_text()[-20_000:])
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def make_ingress(folder: Path, config: ActorConfig, *arguments: str) -> IngressProcess:
    """Starts an ingress for the robot of `config`."""
    return IngressProcess(folder, spec=robot_spec(config), arguments=arguments)


def stored(root: Path) -> list[tuple[TrialRow, Trial]]:
    """Returns every committed trial of a store, read back and verified, in order of commit."""
    with contextlib.closing(TrialStore.open(root, read_only=True)) as store:
        return [(row, store.load(row.trial_id)) for row in store.iter_rows()]


def spooled(root: Path) -> list[SpoolTrial]:
    """Returns every trial of a spool, oldest first."""
    return list(read_spool(root))


def check_delivered(config: ActorConfig, store: Path) -> list[Trial]:
    """Asserts that spool and store hold the same trials of an actor, once each and contiguous."""
    here = spooled(config.spool)
    there = [(row, trial) for row, trial in stored(store) if row.actor == config.actor_id]
    assert {t.state for t in here} <= {"acked"}
    assert not any(t.damage for t in here)
    assert [t.trial_id for t in here] == [row.trial_id for row, _ in there]
    assert [t.digest for t in here] == [trial.digest() for _, trial in there]
    assert [t.ledger_seq for t in here] == [row.ledger_seq for row, _ in there]
    trials = [trial for _, trial in there]
    for trial in trials:
        check_counting(trial)
    return trials


def check_counting(trial: Trial) -> None:
    """Asserts that a trial of the counting robot has no gap."""
    expected = np.arange(trial.num_steps + 1)
    np.testing.assert_array_equal(trial.observations["state"][:, 0], expected)
    np.testing.assert_array_equal(trial.observations["image.front"][:, 0, 0, 0], expected % 256)
    if trial.outcome is not Outcome.ABORTED:
        assert trial.num_steps == trial.spec.max_steps


def count(trials: list[Trial], *outcomes: Outcome) -> int:
    """Counts trials by outcome."""
    return sum(trial.outcome in outcomes for trial in trials)
