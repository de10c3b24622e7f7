"""The real Ray: a worker that is killed goes on from its checkpoint, and so does all of Ray."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from learner.checkpoint import CheckpointStore
from learner.child_processes import is_alive, name_of
from learner.ray_trainer import RaySupervisor, _core_processes
from learner.status import TrainerState, TrainerStatus, read_status
from learner.store import TrialStore
from learner.trainer_config import TrainerConfig
from tests.learner.tiny import make_fowm_job
from tests.learner.trials import make_trial

ROOT = Path(__file__).parents[2]
CONFIG = TrainerConfig(
    num_pretrain_updates=100_000,
    batch_size=4,
    checkpoint_every_updates=20,
    is_tensorboard_on=False,
    num_threads=1,
)


class Run:
    """A job under a supervisor, looked at through its store."""

    def __init__(self, folder: Path, config: TrainerConfig = CONFIG) -> None:
        self.job = make_fowm_job(str(folder / "store"), config, image_size=16)
        self.root = Path(self.job.store)
        store = TrialStore.open(self.root)
        for number in range(3):
            store.commit(make_trial(number, spec=self.job.spec, is_noisy=True))
        store.close()
        self.supervisor = RaySupervisor(self.job)

    @property
    def status(self) -> TrainerStatus:
        status = read_status(self.root / "logs" / "trainer_status.json")
        return status or TrainerStatus(state=TrainerState.LOADING)

    @property
    def pid(self) -> int:
        return int((self.root / "run" / "trainer.pid").read_text())

    def poll_until(self, is_there: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not is_there():
            assert time.monotonic() < deadline_s, f"still {self.status}"
            self.supervisor.poll(0.1)

    def poll_until_training(self, unlike_pid: int = 0) -> None:
        self.poll_until(
            lambda: (
                self.status.state is TrainerState.PRETRAINING
                and self.status.pid not in (0, unlike_pid)
                # Not the word of one that died since: the next start has not written yet then.
                and self.status.pid == self.pid
                and is_alive(self.pid)
                and bool(CheckpointStore(self.root / "checkpoints").paths())
            )
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("ray"))
    run.supervisor.start()
    run.poll_until_training()
    yield run
    run.poll_until_training()
    assert run.supervisor.stop()
    assert run.status.state is TrainerState.STOPPED
    assert _core_processes() == []
    checkpoint = CheckpointStore(run.root / "checkpoints").load_latest()
    assert checkpoint is not None
    assert checkpoint.num_updates == run.status.num_updates


def test_a_killed_trainer_goes_on_from_its_checkpoint(run: Run) -> None:
    run.poll_until_training()
    pid, restarts = run.pid, run.supervisor.num_restarts
    saved = CheckpointStore(run.root / "checkpoints").paths()[-1]
    os.kill(pid, signal.SIGKILL)
    run.poll_until_training(unlike_pid=pid)
    assert run.pid != pid
    assert run.supervisor.num_restarts > restarts
    assert run.status.num_updates >= int(saved.name.split(".")[0])


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_when_ray_dies_it_is_started_again(run: Run, name: str) -> None:
    run.poll_until_training()
    pid = run.pid
    (core,) = [p for p in _core_processes() if name_of(p) == name]
    os.kill(core, signal.SIGKILL)
    run.poll_until_training(unlike_pid=pid)
    assert core not in _core_processes()


def test_every_port_is_on_loopback(run: Run) -> None:
    run.poll_until_training()
    ports = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=False)
    if ports.returncode:
        pytest.skip("ss is not installed")
    ours = [
        line.split()[3]
        for line in ports.stdout.splitlines()
        if any(f"pid={p}," in line for p in [*_core_processes(), run.pid])
    ]
    assert ours
    assert [a for a in ours if not a.startswith(("127.", "[::1]", "[::ffff:127."))] == []


FAILS = """
import sys
from learner.ray_trainer import RaySupervisor, TrainerFailed
from learner.trainer_config import TrainerJob
supervisor = RaySupervisor(TrainerJob.from_json(sys.argv[1]))
supervisor.start()
try:
    while True:
        supervisor.poll(0.2)
except TrainerFailed as error:
    print(supervisor.num_restarts, error)
"""


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own: one process can hold one Ray."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def test_an_error_of_the_trainer_is_raised_not_repeated(tmp_path: Path) -> None:
    job = Run(tmp_path).job
    job = dataclasses.replace(job, spec=dataclasses.replace(job.spec, control_hz=5.0))
    done = run_script(FAILS, job.to_json())
    assert done.stdout.startswith("0 SpecMismatch: trial "), done.stderr
    assert "control_hz: 5.0 here, 10.0 there" in done.stdout


HALF_WAY = """
import sys
from learner.child_processes import children, is_alive
from learner.ray_trainer import RayNotStarted, RaySupervisor, _import_ray
from learner.trainer_config import TrainerJob
_import_ray(is_private=True)
from ray._private import services
def time_out(*_, **__):
    raise Exception("The current node timed out during startup.")
get_node, services.get_node = services.get_node, time_out
supervisor = RaySupervisor(TrainerJob.from_json(sys.argv[1]))
try:
    supervisor.start()
except RayNotStarted as error:
    print(error)
while any(is_alive(pid) for pid in children()):
    pass
print("nothing is left")
services.get_node = get_node
supervisor.start()
print(supervisor.poll().value)
supervisor.stop(0.0)
"""


def test_a_start_that_fails_half_way_leaves_nothing_and_can_be_made_again(tmp_path: Path) -> None:
    done = run_script(HALF_WAY, Run(tmp_path).job.to_json())
    assert done.stdout.splitlines() == [
        "Ray cannot be used: Exception: The current node timed out during startup.",
        "nothing is left",
        "running",
    ], done.stderr


NO_CLUSTER = """
import sys
from learner.ray_trainer import RayConfig, RayNotStarted, RaySupervisor
from learner.trainer_config import TrainerJob
supervisor = RaySupervisor(TrainerJob.from_json(sys.argv[1]), RayConfig(address=sys.argv[2]))
try:
    supervisor.start()
except RayNotStarted as error:
    print(error)
"""


def test_a_cluster_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = run_script(NO_CLUSTER, Run(tmp_path).job.to_json(), address)
    assert done.stdout.startswith(f"the Ray at {address} cannot be used: ConnectionRefused"), (
        done.stderr
    )


TOO_SMALL = """
import sys
from learner.child_processes import children, is_alive
from learner.placement import NoMachineFits
from learner.ray_trainer import RayConfig, RaySupervisor
from learner.trainer_config import TrainerJob
try:
    RaySupervisor(TrainerJob.from_json(sys.argv[1]), RayConfig(num_cpus=100_000)).start()
except NoMachineFits as error:
    print(error)
while any(is_alive(pid) for pid in children()):
    pass
"""


def test_more_than_the_machine_has_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    done = run_script(TOO_SMALL, Run(tmp_path).job.to_json())
    assert "asks for 100000 CPUs" in done.stdout, done.stderr


def test_what_the_trainer_logs_is_kept_beside_the_store(run: Run) -> None:
    run.poll_until_training()
    log = run.root / "logs" / "trainer.log"

    def num_resumed() -> int:
        text = log.read_text() if log.exists() else ""  # made by its first record
        return text.count("INFO trainer learner.run_state: resumed")

    resumed_before = num_resumed()
    os.kill(run.pid, signal.SIGKILL)
    run.poll_until(lambda: num_resumed() > resumed_before)
