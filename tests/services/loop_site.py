"""A loop on a counting robot in simulated time, and a stand-in for its recorder."""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from learner.weights import WeightsManifest
from protos.trial import RobotSpec, Trial
from robot.clock import SimulatedClock
from robot.env import RobotEnv
from robot.fakes import make_counting_env
from robot.sim.config import SimConfig
from services.actor_config import ActorConfig, ActorRun
from services.process import StopFlag
from services.records import Record, WeightsMark
from services.ring import RingReader
from services.ring_control import LoopState
from services.ring_memory import Ring, ring_folder
from services.trial_series import TrialSeries
from services.weights_slot import WeightsSlot
from tests.services.assembler import TrialAssembler
from tests.services.small_weights import publish


class StandIn(threading.Thread):
    """Does the recorder's part: takes trials out of the ring, and tells what a test asks for."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(daemon=True)
        self.trials: list[Trial] = []
        self.on_record: Callable[[Record], None] = lambda _record: None
        self.on_trial: Callable[[Trial], None] = lambda _trial: None
        self.reader = RingReader(ring)
        self._ring = ring
        self._end = threading.Event()

    def run(self) -> None:
        assembler = TrialAssembler()
        while not (self._end.is_set() and (self._ring.is_drained or self._ring.has_open_trial)):
            for record in self.reader.poll(0.005):
                self.on_record(record)
                if (trial := assembler.add(record)) is not None:
                    self.trials.append(trial)
                    self.on_trial(trial)
            self.reader.commit()

    def finish(self) -> list[Trial]:
        self._end.set()
        self.join()
        return self.trials


class Site:
    """A loop on a counting robot in simulated time, with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock()
        self.env = make_counting_env(self.clock, max_steps=6, image_size=40)
        self.config = ActorConfig(
            robot="counting",
            sim=SimConfig(max_steps=6, image_size=40),
            spool=folder,
            trials=3,
            policy="random",
            unreachable_s=0.1,
        )
        self.ring = Ring.create(
            ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}",
            self.env.spec,
            num_trials=4,
        )
        self.ring.control.recorder_heartbeat_ns = time.monotonic_ns()
        self.recorder = StandIn(self.ring)
        self.weights = folder / "weights"
        self.stop = StopFlag()
        self.running: list[threading.Thread] = []

    @property
    def spec(self) -> RobotSpec:
        return self.env.spec

    def loop(
        self, *, env: RobotEnv | None = None, num_trials_before: int = 0, **changes: object
    ) -> TrialSeries:
        config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
        run = ActorRun(
            ring=self.ring.path,
            incarnation="i",
            software="test",
            parent_pid=1,
            num_trials_before=num_trials_before,
            config=config,
        )
        slot = self.slot() if config.policy == "model" else None
        return TrialSeries(run, self.ring, env or self.env, self.clock, slot, self.stop)

    def start(self, **changes: object) -> threading.Thread:
        """Runs a loop on a thread of its own."""
        series = self.loop(**changes)  # type: ignore[arg-type]
        thread = threading.Thread(target=series.run)
        thread.start()
        self.running.append(thread)
        return thread

    def close(self) -> None:
        self.stop.set()
        for thread in self.running:
            thread.join()
        if self.recorder.is_alive():
            self.recorder.finish()
        self.ring.unlink()

    def slot(self) -> WeightsSlot:
        return WeightsSlot(self.weights, self.spec, device="cpu", seed=0, control=self.ring.control)

    def announce(self, ledger_seq: int = 0) -> WeightsMark:
        mark = mark_of(publish(self.weights, self.spec, ledger_seq=ledger_seq))
        self.recorder.reader.announce_weights(mark)
        return mark

    def replace_learner(self) -> None:
        """Removes the versions, as the recorder does when the learner is another one."""
        shutil.rmtree(self.weights)

    def wait_for(self, state: LoopState) -> None:
        deadline = time.monotonic() + 30
        while self.ring.control.loop_state != state:
            assert time.monotonic() < deadline, f"the loop never came to {state!r}"
            time.sleep(0.002)


def mark_of(manifest: WeightsManifest) -> WeightsMark:
    return WeightsMark.of(manifest.version, manifest.to_json())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.recorder.start()
    yield made
    made.close()


def versions(trial: Trial) -> set[int]:
    return set(trial.steps["weights_version"].tolist()) | {trial.provenance.weights_version}
