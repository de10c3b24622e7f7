"""An actor of a real arm at the doubles, in motion: what the faults happen to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robot.fault_store import FaultStore
from services.actor_config import ActorConfig
from services.guard import FAULT_FILE
from services.ring_memory import Ring
from tests.e2e.actor_rig import ActorProcess, make_ingress, spooled
from tests.e2e.doubles_rig import DoubleProcess, make_config
from tests.fault_proxy import FaultProxy
from tests.faults.record import Record
from tests.services.rig import ROOT, is_gone, wait_until

# So far from the start pose that a reset takes more than a second.
_AWAY = ("--start", "0.30", "0.10", "0.20")
# A reset is slower than a trial.
_FAST_M_S = {"trial": 0.15, "reset": 0.1}
_START_S = 60.0


class Cell:
    """The doubles, the learner's end of the link, and the actor that is running at them.

    Args:
        folder: Gets every file.
        double: The arm's and the camera's.
        proxy: Between the actor and its learner.
        store: The learner's.
        config: The actor's.
    """

    def __init__(
        self,
        folder: Path,
        double: DoubleProcess,
        proxy: FaultProxy,
        store: Path,
        config: ActorConfig,
    ) -> None:
        self.folder, self.double, self.proxy = folder, double, proxy
        self.store, self.config = store, config
        self.actor: ActorProcess | None = None
        self.ring: Ring | None = None
        self._faults = FaultStore(config.spool / "run" / FAULT_FILE)

    @contextmanager
    def running(self) -> Iterator[ActorProcess]:
        """Starts the actor; its processes are gone at the end."""
        with ActorProcess(self.folder, self.config) as actor:
            self.actor = actor
            try:
                yield actor
            finally:
                self.end_all()

    def end_all(self) -> None:
        """Kills what is left of the actor."""
        for name in ("actor", "guard", "loop", "recorder"):
            with contextlib.suppress(ProcessLookupError):
                if (pid := self.pid_of(name)) is not None:
                    os.kill(pid, signal.SIGKILL)
                    wait_until(lambda pid=pid: is_gone(pid), what=f"{name} ends")

    def pid_of(self, name: str) -> int | None:
        """Returns a process's id; None while it does not run."""
        assert self.actor is not None
        return self.actor.pid_of(name)

    def signal(self, name: str, number: int) -> None:
        """Sends one process of the actor a signal."""
        pid = self.pid_of(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, number)

    def tell(self, line: str) -> None:
        """Has the double do something."""
        answer = self.double.tell(line)
        assert answer == "ok", f"{line}: {answer}"

    def record(self, since_ns: int) -> Record:
        """Returns the double's record from a moment on."""
        return Record.parse(self.double.tell(f"record {since_ns}"))

    @property
    def latched(self) -> str:
        """Code of the fault on disk; empty for none."""
        stored = self._faults.load()
        return "" if stored is None else stored.code

    def trials(self) -> list[str]:
        """Returns the states of the trials in the spool."""
        return [trial.state for trial in spooled(self.config.spool)]

    def wait_for_trial(self) -> None:
        """Waits until the actor's arm moves in a trial, some ticks into it."""
        self._wait_for_ring()
        self._wait(
            lambda: self.num_ticks >= 3 and self._is_fast("trial"), "the arm moves in a trial"
        )

    def wait_for_reset(self) -> None:
        """Waits until the arm is on its way to its first start."""
        self._wait_for_ring()
        self._wait(lambda: self._is_fast("reset"), "the arm moves in a reset")
        assert self.ring is not None
        assert self.ring.num_begun == 0, "the reset was over before it was seen"

    @property
    def num_ticks(self) -> int:
        """Ticks of the run that is on."""
        return 0 if self.ring is None else self.ring.control.num_ticks

    def acknowledge(self) -> int:
        """Runs `offworld actor ack`; returns its exit code."""
        command = [sys.executable, "-m", "services.cli", "actor", "ack"]
        done = subprocess.run(
            [*command, "--spool", str(self.config.spool)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60.0,
            check=False,
        )
        with (self.folder / "ack.log").open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        return done.returncode

    def _wait_for_ring(self) -> None:
        assert self.actor is not None
        self.ring = self.actor.ring()

    def _is_fast(self, during: str) -> bool:
        now_ns = time.monotonic_ns()
        return self.record(now_ns - 50_000_000).speed_at(now_ns) > _FAST_M_S[during]

    def _wait(self, is_true, what: str) -> None:
        assert self.actor is not None

        def is_over() -> bool:
            assert self.actor is not None
            assert self.actor.process.poll() is None, f"{what}: {self.actor.log_text()[-3000:]}"
            return is_true()

        wait_until(is_over, timeout_s=_START_S, what=what)


@contextmanager
def make_cell(folder: Path, *, control_hz: float, max_steps: int) -> Iterator[Cell]:
    """Yields a cell whose actor has not been started; all ends with the block.

    Args:
        folder: Gets every file.
        control_hz: Of the loop.
        max_steps: Length of a trial.
    """
    with contextlib.ExitStack() as stack:
        double = stack.enter_context(DoubleProcess(folder, *_AWAY))
        config = make_config(folder, "127.0.0.1:1", double)
        # A loop that is faster needs a camera that is.
        stream = dataclasses.replace(config.cell.stream, fps=30 if control_hz > 10 else 15)
        cell = dataclasses.replace(
            config.cell, control_hz=control_hz, max_steps=max_steps, stream=stream
        )
        config = dataclasses.replace(config, cell=cell, trials=None)
        ingress = stack.enter_context(make_ingress(folder / "learner", config))
        proxy = stack.enter_context(FaultProxy(ingress.address))
        config = dataclasses.replace(config, learner=proxy.address)
        yield Cell(folder, double, proxy, ingress.store, config)
