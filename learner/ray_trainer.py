"""The trainer as a Ray worker: placed on a GPU if there is one, started again when it dies.

Ray restarts processes, not state: the trainer's state is its checkpoint, so a worker that was
killed builds the trainer anew and continues. Nothing is ever retried by Ray itself, nobody but this
module names it, and no trial and no weights pass through it; they are in the store.

Without an address a private Ray is started on this machine: loopback only, with a token of its own
and no usage reports. Its object store takes 200 MB; we do not use it, Ray does not run without. Its
processes end with ours, and it is started again as a whole if a part of it dies.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from learner.child_processes import children, is_alive, kill_children_with, name_of
from learner.clock import Clock, SystemClock
from learner.placement import NoMachineFits, num_gpus_for
from learner.trainer_config import TrainerJob
from learner.trainer_worker import TrainerWorker

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 200 << 20
TEMP_PREFIX = "offworld-ray-"
FIRST_BACKOFF_S = 0.25
LAST_BACKOFF_S = 15.0
STEADY_S = 60.0
"""A worker that ran for so long is started again at once when it dies."""
RING_S = 10.0
"""How long the head of a cluster may take to answer."""


class TrainerFailed(RuntimeError):
    """The trainer ended with an error that a restart would meet again; the message is its own."""


class RayNotStarted(TrainerFailed):
    """Ray did not come up, or its cluster does not answer; a later try may find it well."""


class WorkerState(StrEnum):
    """How the worker is."""

    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Where Ray comes from and what the worker asks of it."""

    address: str | None = None
    """HOST:PORT of a running cluster that sees the same store folder; None starts a private one."""
    num_cpus: int = 1
    """CPUs that Ray sets aside for the trainer; torch's threads are `TrainerConfig.num_threads`."""

    def __post_init__(self) -> None:
        if self.num_cpus < 0:
            raise ValueError(f"num_cpus is {self.num_cpus}, must not be negative")


class RaySupervisor:
    """Starts the worker and keeps it running; `poll` it a few times a second.

    Args:
        job: What to train.
        config: Where.
        clock: Time.
    """

    def __init__(
        self, job: TrainerJob, config: RayConfig | None = None, clock: Clock | None = None
    ) -> None:
        self._job = job
        self._config = config or RayConfig()
        self._clock = clock or SystemClock()
        self._temp: Path | None = None
        self._core_pids: list[int] = []
        self._worker: Any = None
        self._run: Any = None
        self._began_s = self._due_s = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self.num_restarts = 0
        """How often the worker, or all of Ray, was started again."""

    def start(self) -> None:
        """Starts Ray and the worker; returns before the trainer is ready.

        Raises:
            NoMachineFits: The CPUs or the GPU that are asked for are nowhere.
            RayNotStarted: It could not; nothing of Ray is left running, in either case.
        """
        ray = _import_ray(is_private=self._config.address is None)
        on_signal = _handlers()
        try:
            self._init(ray)
            self._place(ray)
        except Exception as error:  # noqa: BLE001 - Ray raises plain Exception
            self._worker = self._run = None
            self._end_ray()
            if isinstance(error, NoMachineFits):
                raise
            where = f"the Ray at {address}" if (address := self._config.address) else "Ray"
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise RayNotStarted(f"{where} cannot be used: {reason}") from error
        finally:
            # Ray takes SIGTERM for itself; what it means to stop is our owner's business.
            for number, handler in on_signal.items():
                signal.signal(number, handler)

    def _init(self, ray: Any) -> None:
        if self._config.address is None:
            self._temp = _make_temp()
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._temp),
            )
            self._core_pids = _core_processes()
        else:
            _ring(self._config.address)
            ray.init(address=self._config.address, log_to_driver=False, configure_logging=False)

    def _place(self, ray: Any) -> None:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        worker = ray.remote(
            num_cpus=self._config.num_cpus,
            num_gpus=num_gpus_for(self._job.device, self._config.num_cpus, machines),
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=2,
        )(TrainerWorker)
        self._worker = worker.remote(self._job.to_json())
        self._call_run()

    def poll(self, timeout_s: float = 0.0) -> WorkerState:
        """Looks after the worker: started again if it died, and Ray with it if need be.

        Args:
            timeout_s: Longest time to wait for news.

        Raises:
            NoMachineFits, RayNotStarted: Ray died, and so it was with the next one.
            TrainerFailed: The trainer itself raised an error.
        """
        import ray
        from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

        if self._run is None:
            wait_s = self._due_s - self._clock.monotonic_s()
            if wait_s > 0:
                self._clock.sleep_s(min(wait_s, timeout_s))
                return WorkerState.RESTARTING
            self.num_restarts += 1
            if self._worker is None:
                self._end_ray()
                self.start()
            else:
                self._call_run()
            return WorkerState.RESTARTING
        if not all(is_alive(pid) for pid in self._core_pids):
            # Left alone, Ray would end this very process a minute after its GCS died.
            self._expect_restart("a process of Ray itself died")
            self._worker = None
            return WorkerState.RESTARTING
        try:
            if not ray.wait([self._run], timeout=timeout_s)[0]:
                return WorkerState.RUNNING
            ray.get(self._run)
        except RayTaskError as error:
            raise TrainerFailed(f"{type(error.cause).__name__}: {error.cause}") from error
        except ActorUnavailableError as error:
            self._expect_restart(str(error).partition("\n")[0])
            return WorkerState.RESTARTING
        except (RayActorError, RayError, ConnectionError) as error:
            self._expect_restart(str(error).partition("\n")[0])
            self._worker = None
            return WorkerState.RESTARTING
        return WorkerState.STOPPED

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Ends the trainer after its update and a checkpoint, then Ray.

        Args:
            timeout_s: After this the worker is killed; only updates since the last checkpoint
                are lost then.

        Returns:
            Whether the trainer ended by itself.
        """
        import ray
        from ray.exceptions import RayError

        has_ended = False
        if self._run is not None and all(is_alive(pid) for pid in self._core_pids):
            try:
                self._worker.stop.remote()
                if ray.wait([self._run], timeout=timeout_s)[0]:
                    ray.get(self._run)
                    has_ended = True
                ray.kill(self._worker, no_restart=True)
            except (RayError, ConnectionError) as error:
                logger.warning("trainer_not_stopped reason=%s", str(error).partition("\n")[0])
        self._worker = self._run = None
        self._end_ray()
        return has_ended

    def _call_run(self) -> None:
        self._run = self._worker.run.remote()
        self._began_s = self._clock.monotonic_s()

    def _expect_restart(self, reason: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._began_s > STEADY_S:
            self._backoff_s = FIRST_BACKOFF_S
        self._run, self._due_s = None, now_s + self._backoff_s
        logger.warning("trainer_died reason=%s again_in_s=%.2f", reason, self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, LAST_BACKOFF_S)

    def _end_ray(self) -> None:
        import ray

        ray.shutdown()
        self._core_pids = []
        if self._temp is not None:
            kill_children_with(str(self._temp))  # of a start that failed half way
            shutil.rmtree(self._temp, ignore_errors=True)
            self._temp = None


def _import_ray(*, is_private: bool) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray runs workers at nice 15, where anything else on the machine starves the trainer.
    os.environ.setdefault("RAY_worker_niceness", "0")
    if is_private:
        # Read when Ray is imported: bind to 127.0.0.1 although this is not macOS.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    return ray


def _ring(address: str) -> None:
    """Raises OSError if nobody listens at HOST:PORT, about which Ray itself is silent for minutes.

    Other forms of an address, such as `auto`, are left to Ray.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=RING_S).close()


def _handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}


def _make_temp() -> Path:
    """Makes a folder of our own with a short name: the paths of Unix sockets end at 107 bytes."""
    base = Path("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir())  # noqa: S108
    for old in base.glob(f"{TEMP_PREFIX}*"):
        pid = old.name.removeprefix(TEMP_PREFIX).partition("-")[0]
        if pid.isdecimal() and not is_alive(int(pid)) and old.stat().st_uid == os.getuid():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{os.getpid()}-", dir=base))


def _core_processes() -> list[int]:
    """Returns the children without which Ray is dead; Linux only, else none."""
    core = [pid for pid in children() if name_of(pid) in ("gcs_server", "raylet")]
    return [pid for pid in core if is_alive(pid)]
