"""A whole system on one machine: real learner with its Ray, real actor, and a hand that kills."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learner.checkpoint import CheckpointStore
from learner.status import TrainerState, TrainerStatus
from learner.store import TrialStore
from learner.trainer_config import TrainerConfig
from learner.weights import WeightStore
from protos.trial import Provenance, Source
from robot.clock import SimulatedClock
from robot.collect import collect_trial
from robot.sim.experts import Explorer
from services.actor_config import ActorConfig
from services.actor_robot import make_env, robot_spec
from services.children import Child, descendants, offworld
from services.config_text import to_toml
from services.learner_config import LearnerConfig, LimitsConfig
from services.process import ExitCode
from services.ring_control import LinkState
from services.store_view import StoreView
from tests.e2e.actor_rig import ActorProcess
from tests.learner.tiny import SMALL_FOWM
from tests.services.rig import is_gone, wait_until

PROCESSES: tuple[str, ...] = ("trainer", "ingress", "recorder", "loop")
OFFLINE_TRIALS = 8
TRAINER = TrainerConfig(
    num_pretrain_updates=20,
    updates_per_trial=3,
    updates_per_step=None,
    min_offline_trials=OFFLINE_TRIALS,
    batch_size=4,
    checkpoint_every_updates=10,
    log_every_updates=10,
    is_tensorboard_on=False,
    poll_s=0.05,
    num_threads=1,
)
_LONGEST_S = 1.5
_RESTART_S = 90.0
_IDLE_DEATHS = 2


def record_offline(config: ActorConfig, store: Path) -> None:
    """Makes a store with `OFFLINE_TRIALS` trials of the robot of `config`, moved at random."""
    env = make_env(config, SimulatedClock())
    explorer = Explorer(env.spec.action_size)
    trials = TrialStore.open(store)
    try:
        for seed in range(OFFLINE_TRIALS):
            provenance = Provenance(
                actor="scripted",
                incarnation="offline",
                source=Source.OFFLINE,
                seed=seed,
                started_unix_ns=time.time_ns(),
                software="test",
            )
            rng = np.random.default_rng(seed)
            trials.commit(collect_trial(env, explorer, provenance, rng=rng))
    finally:
        trials.close()
        env.close()


class StatusWatch:
    """Keeps every status the trainer writes, as far as one look in 20 ms sees them."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="status-watch", daemon=True)
        self.seen: list[TrainerStatus] = []

    def __enter__(self) -> StatusWatch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            status = self._view.status()
            if status is not None and (not self.seen or status.unix_ns != self.seen[-1].unix_ns):
                self.seen.append(status)


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One SIGKILL, and what the trainer had saved just before it."""

    name: str
    unix_ns: int
    num_updates_saved: int


class System:
    """A learner and an actor that talk to each other. Use it in a `with` statement.

    Args:
        folder: Gets the store, the spool, configurations and logs.
        config: The actor; its learner is filled in.
        seed: Of the moments at which processes die.
        offline: Whose robot makes the offline trials; None for the actor's own.
    """

    def __init__(
        self,
        folder: Path,
        config: ActorConfig,
        *,
        seed: int = 0,
        offline: ActorConfig | None = None,
    ) -> None:
        self.view = StoreView(folder / "store")
        self.kills: list[Kill] = []
        self._folder = folder
        self._dice = random.Random(seed)
        self._killed_pid = dict.fromkeys(PROCESSES, 0)
        self._begun_at_death = dict.fromkeys(PROCESSES, -1)
        self._idle_deaths = 0
        record_offline(offline or config, self.view.root)
        with ExitStack() as stack:
            self.learner = stack.enter_context(self._start_learner(config))
            wait_until(lambda: self.view.address() is not None, timeout_s=60, what="it listens")
            self.config = dataclasses.replace(config, learner=self.view.address() or "")
            self.watch = stack.enter_context(StatusWatch(self.view))
            self.actor = stack.enter_context(ActorProcess(folder, self.config))
            self.ring = self.actor.ring()
            self._stack = stack.pop_all()

    def __enter__(self) -> System:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:
            log = self.view.root / "logs" / "trainer.log"
            told = log.read_text() if log.exists() else "the trainer never ran"
            for text in (str(self.kills), self.actor.log_text(), self.learner.log_tail(60), told):
                print(text[-8_000:])  # noqa: T201 (shown when the test fails)
        self._stack.close()

    @property
    def killed(self) -> Counter[str]:
        """How often each process was killed."""
        return Counter({name: 0 for name in PROCESSES} | Counter(k.name for k in self.kills))

    @property
    def weights_version(self) -> int:
        """Newest published version; 0 before the first."""
        return WeightStore(self.view.root / "weights").latest_version() or 0

    def pid_of(self, name: str) -> int | None:
        """Returns the id of one of `PROCESSES`; None while it does not run."""
        is_learners = name in ("trainer", "ingress")
        folder = self.view.root / "run" if is_learners else self.actor.run
        try:
            pid = int((folder / f"{name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        owner = self.learner.pid if is_learners else self.actor.process.pid
        return pid if not is_gone(pid) and pid in descendants(owner) else None

    def wait_for_trials(self, num_more: int) -> None:
        """Waits until the loop has completed more trials than now."""
        goal = self.ring.num_complete + num_more
        self._wait(lambda: self.ring.num_complete >= goal, f"{num_more} more trials")

    def kill_each(self, times: int) -> None:
        """Kills each process so many times, in random order at random moments.

        Every other one, about, is let to do some work first; the rest may die while they start.
        """
        order = [name for name in PROCESSES for _ in range(times)]
        self._dice.shuffle(order)
        for name in order:
            self._wait(lambda name=name: self._may_kill(name), f"{name} runs again")
            if self._dice.random() < 0.5:
                self._wait(lambda name=name: self._works(name), f"{name} works again")
            time.sleep(self._dice.uniform(0.0, _LONGEST_S))  # the random moment
            self._kill(name)

    def settle(self) -> int:
        """Lets everything come up and learn again, then stops the robot and waits for the trainer.

        Returns:
            The newest version of the weights at the last kill; a newer one flew the robot since.
        """
        version = self.weights_version
        control = self.ring.control
        self.wait_for_trials(2)
        self._wait(lambda: control.weights_in_use > version, "weights of after the last kill")
        self._wait(lambda: control.link_state == LinkState.UP, "the link is up")
        assert self.actor.stop(timeout_s=60) == ExitCode.DONE, self.actor.log_text()[-4_000:]
        last = self.view.last_seq()
        wait_until(
            lambda: self._is_trained_through(last), timeout_s=_RESTART_S, what="no update owed"
        )
        assert self.learner.stop() == ExitCode.DONE, self.learner.log_tail()
        return version

    def _start_learner(self, config: ActorConfig) -> Child:
        learner = LearnerConfig(
            store=self.view.root,
            listen="127.0.0.1:0",
            device="cpu",
            spec=robot_spec(config),
            algorithm=SMALL_FOWM,
            trainer=TRAINER,
            limits=LimitsConfig(reserve_mib=64),
        )
        file = self._folder / "learner.toml"
        file.write_text(to_toml(learner))
        command = offworld("learner", "--config", str(file))
        return Child("learner", command, log=self._folder / "learner.log")

    def _wait(self, is_true: Callable[[], bool], what: str) -> None:
        def is_over() -> bool:
            assert self.learner.exit_code is None, f"the learner ended while waiting for: {what}"
            assert self.actor.process.poll() is None, f"the actor ended while waiting for: {what}"
            return is_true()

        wait_until(is_over, timeout_s=_RESTART_S, what=what)

    def _may_kill(self, name: str) -> bool:
        """Whether its successor runs. An actor gives up on a loop that never comes to a trial."""
        pid = self.pid_of(name)
        is_new = pid is not None and pid != self._killed_pid[name]
        return is_new and (name != "loop" or self._idle_deaths < _IDLE_DEATHS or self._works(name))

    def _works(self, name: str) -> bool:
        """Whether it has come to its work since it was last killed."""
        if name == "trainer":
            status = self.view.status() or TrainerStatus(state=TrainerState.LOADING)
            return status.state is not TrainerState.LOADING and status.pid == self.pid_of(name)
        return self.ring.num_begun > self._begun_at_death[name]

    def _kill(self, name: str) -> None:
        pid = self.pid_of(name)
        assert pid is not None, f"{name} ended by itself"
        saved = CheckpointStore(self.view.root / "checkpoints").paths()
        if name == "loop":
            self._idle_deaths = 0 if self._works(name) else self._idle_deaths + 1
        self._begun_at_death[name] = self.ring.num_begun
        os.kill(pid, signal.SIGKILL)
        self._killed_pid[name] = pid
        self.kills.append(
            Kill(
                name=name,
                unix_ns=time.time_ns(),
                num_updates_saved=int(saved[-1].name.partition(".")[0]) if saved else 0,
            )
        )

    def _is_trained_through(self, ledger_seq: int) -> bool:
        status = self.view.status()
        return (
            status is not None
            and status.state is TrainerState.WAITING
            and status.settled_seq >= ledger_seq
            and status.updates_owed == 0
        )
