"""The promise of the wire: no trial lost, none doubled, none changed, whatever dies or breaks."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store import TrialStore
from learner.weights import WeightStore
from protos.trial import Outcome
from services.actor_config import ActorConfig, ActorRun
from services.client import LearnerClient
from services.ring import RingFull, RingWriter
from services.ring_memory import Ring, ring_folder
from services.spool import Spool, SpoolConfig
from tests.fault_proxy import FaultProxy
from tests.services.ingress_bench import publish
from tests.services.recorder_bench import RunningRecorder, digests, expected
from tests.services.rig import ROOT, SPEC, IngressProcess, identity, wait_until
from tests.services.test_spool import records_of
from tests.wire_data import (
    make_provenance,
    make_spec,
    make_trial,
    observation_row,
    step_row,
    trial_id_of,
)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1:9", seed=1) as made:
        yield made


def assert_whole(ingress: IngressProcess, seeds: range) -> None:
    """The store holds exactly these trials, each once, unchanged, and nothing else."""
    assert digests(ingress) == expected(*seeds)
    store = TrialStore.open(ingress.store, read_only=True)
    rows = store.ledger.since(0)
    assert len({row.trial_id for row in rows}) == len(rows) == len(seeds)
    assert store.fsck().problems == ()
    assert store.ledger.quarantined() == []
    store.close()


def _kill_during_uploads(folder: Path, proxy: FaultProxy, num_trials: int, num_kills: int) -> None:
    rng = random.Random(0)
    ingress = IngressProcess(folder / "learner")
    proxy.upstream = ingress.address
    try:
        with RunningRecorder(folder / "spool", proxy.address) as running:
            for k in range(num_kills):
                first = k * num_trials // num_kills
                running.record(*range(first, (k + 1) * num_trials // num_kills))
                done = len(running.loop.acked)
                wait_until(lambda done=done: len(running.loop.acked) > done, timeout_s=30.0)
                time.sleep(rng.uniform(0.0, 0.1))  # a random instant, not a synchronisation
                ingress.kill()
                ingress = IngressProcess(folder / "learner")
                proxy.upstream = ingress.address
            wait_until(lambda: len(running.loop.acked) == num_trials, timeout_s=120.0)
            assert sorted(running.loop.acked.values()) == list(range(1, num_trials + 1))
            assert running.recorder.spool.counts().num_rejected == 0
        assert_whole(ingress, range(num_trials))
        assert ingress.stop() == 0
    finally:
        ingress.kill()


def test_kill_9_of_the_ingress_loses_and_doubles_nothing(tmp_path: Path, proxy: FaultProxy) -> None:
    _kill_during_uploads(tmp_path, proxy, num_trials=40, num_kills=4)


@pytest.mark.slow
def test_a_hundred_kills_of_the_ingress_lose_and_double_nothing(
    tmp_path: Path, proxy: FaultProxy
) -> None:
    _kill_during_uploads(tmp_path, proxy, num_trials=1000, num_kills=100)


POINTS = ["commit.written", "commit.renamed", "ledger.appended"]


@pytest.mark.parametrize("point", POINTS)
def test_kill_at_each_step_of_a_commit_loses_and_doubles_nothing(
    tmp_path: Path, proxy: FaultProxy, point: str
) -> None:
    environment = {"OFFWORLD_FAILPOINT": f"{point}:2"}
    with IngressProcess(tmp_path / "learner", environment=environment) as doomed:
        proxy.upstream = doomed.address
        with RunningRecorder(tmp_path / "spool", proxy.address) as running:
            running.record(0, 1, 2)
            assert doomed.process.wait(20) == -signal.SIGKILL
            with IngressProcess(tmp_path / "learner") as ingress:
                proxy.upstream = ingress.address
                wait_until(lambda: len(running.loop.acked) == 3)
                assert_whole(ingress, range(3))


# ---- the network --------------------------------------------------------------------------------

BIG = make_spec(image_size=130)


def _cut(proxy: FaultProxy) -> None:
    proxy.cut()


def _blackhole(proxy: FaultProxy) -> None:
    proxy.toxics.is_blackhole = True


def _reset(proxy: FaultProxy) -> None:
    proxy.toxics.reset_after_bytes = 700_000


def _slow(proxy: FaultProxy) -> None:
    proxy.toxics.latency_s, proxy.toxics.jitter_s = 0.02, 0.015
    proxy.toxics.slice_bytes = 1500


def _damage(proxy: FaultProxy) -> None:
    proxy.toxics.flip_every_bytes = 300_000


@pytest.mark.parametrize("fault", [_cut, _blackhole, _reset, _slow, _damage])
def test_uploads_survive_the_network(tmp_path: Path, proxy: FaultProxy, fault) -> None:
    """Trials of 1.3 MB, so that faults hit within uploads and within chunks."""
    with IngressProcess(tmp_path / "learner", spec=BIG) as ingress:
        proxy.upstream = ingress.address
        with RunningRecorder(tmp_path / "spool", proxy.address, spec=BIG) as running:
            wait_until(lambda: running.loop.links[-1:] == [True])
            for seed in range(2):
                running.loop.put(records_of(seed, spec=BIG, num_steps=25))
            wait_until(lambda: len(running.loop.acked) >= 1)
            for seed in range(2, 5):
                running.loop.put(records_of(seed, spec=BIG, num_steps=25))
            fault(proxy)
            wait_until(lambda: running.loop.is_drained, what="recording goes on")
            if fault is _damage:
                wait_until(lambda: proxy.num_flips >= 3)
            if fault is _reset:
                wait_until(lambda: proxy.num_connections >= 3)
            healed = time.monotonic()
            proxy.heal() if fault is not _slow else None
            wait_until(lambda: len(running.loop.acked) == 5, timeout_s=60.0)
            assert time.monotonic() - healed < 30.0
            assert running.recorder.spool.counts().num_rejected == 0
        found = digests(ingress)
        assert found == {
            trial_id_of(s): make_trial(BIG, s, num_steps=25).digest() for s in range(5)
        }


@pytest.mark.parametrize("fault", [_cut, _blackhole, _reset, _slow])
def test_weights_survive_the_network(tmp_path: Path, proxy: FaultProxy, fault) -> None:
    with IngressProcess(tmp_path / "learner") as ingress:
        proxy.upstream = ingress.address
        with RunningRecorder(tmp_path / "spool", proxy.address) as running:
            first = publish(ingress.store, size=10)
            wait_until(lambda: running.loop.weights == [first])
            proxy.toxics.slice_bytes = 20_000  # so that it takes a while
            second = publish(ingress.store, size=600_000)
            carried = proxy.num_connections
            fault(proxy)
            if fault is not _slow:
                client = LearnerClient(ingress.address)
                client.status()  # time passes at the learner
                client.close()
                proxy.heal()
            wait_until(lambda: running.loop.weights == [first, second], timeout_s=60.0)
            tensors = WeightStore(tmp_path / "spool" / "weights").load(second)
            assert tensors["a"].shape == (600_000,)
            assert proxy.num_connections >= carried


def test_half_open_connection_is_noticed(tmp_path: Path, proxy: FaultProxy) -> None:
    with IngressProcess(tmp_path / "learner") as ingress:
        proxy.upstream = ingress.address
        with RunningRecorder(tmp_path / "spool", proxy.address) as running:
            wait_until(lambda: running.loop.links[-1:] == [True])
            proxy.toxics.is_blackhole = True
            wait_until(lambda: running.loop.links[-1] is False, timeout_s=15.0)
            proxy.heal()
            wait_until(lambda: running.loop.links[-1] is True, timeout_s=15.0)


# ---- the actor's side dies ----------------------------------------------------------------------


class RecorderProcess:
    """`python -m services.recorder` on a ring that this test writes."""

    def __init__(self, folder: Path, ring: Ring, address: str) -> None:
        config = ActorConfig(
            learner=address,
            actor_id="arm-1",
            robot="counting",
            spool=folder / "spool",
            reserve_bytes=0,
        )
        run = ActorRun(
            ring=ring.path,
            incarnation="i-1",
            software="test",
            parent_pid=os.getpid(),
            config=config,
        )
        run.write(folder / "actor.toml")
        self.log = folder / "recorder.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.recorder", str(folder / "actor.toml")],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def ring() -> Iterator[Ring]:
    with tempfile.TemporaryDirectory(dir=ring_folder()) as folder:
        made = Ring.create(Path(folder) / "ring", SPEC, num_trials=4)
        yield made
        made.unlink()


def _write(writer: RingWriter, seed: int, num_steps: int = 5) -> None:
    """Plays the loop for one trial, waiting for room as it does."""

    def begins() -> bool:
        with contextlib.suppress(RingFull):
            writer.begin(trial_id_of(seed), make_provenance(seed), observation_row(SPEC, seed, 0))
            return True
        return False

    wait_until(begins, timeout_s=30.0)
    for t in range(num_steps):
        columns = step_row(SPEC, seed, t, is_last=t == num_steps - 1)
        writer.step(columns, observation_row(SPEC, seed, t + 1))
    writer.end(Outcome.SUCCESS if seed % 2 == 0 else Outcome.FAILURE)


def _kill_the_recorder(folder: Path, ring: Ring, num_trials: int, num_kills: int) -> None:
    rng = random.Random(0)
    writer = RingWriter(ring)
    with IngressProcess(folder / "learner") as ingress:
        client = LearnerClient(ingress.address)
        recorder = RecorderProcess(folder, ring, ingress.address)
        try:
            for k in range(num_kills):
                for seed in range(k * num_trials // num_kills, (k + 1) * num_trials // num_kills):
                    _write(writer, seed)
                time.sleep(rng.uniform(0.0, 0.4))  # a random instant, not a synchronisation
                recorder.kill()
                recorder = RecorderProcess(folder, ring, ingress.address)
            wait_until(lambda: client.status().ledger_seq == num_trials, timeout_s=60.0)
            wait_until(lambda: ring.is_drained)
            recorder.process.terminate()
            assert recorder.process.wait(15) == 0, recorder.log.read_text()
        finally:
            recorder.kill()
        assert_whole(ingress, range(num_trials))
        client.close()
    spool = Spool(SpoolConfig(root=folder / "spool", reserve_bytes=0))
    counts = spool.counts()
    assert (counts.num_acked, counts.num_ready, counts.num_open) == (num_trials, 0, 0)
    spool.close()


def test_kill_9_of_the_recorder_loses_and_doubles_nothing(tmp_path: Path, ring: Ring) -> None:
    _kill_the_recorder(tmp_path, ring, num_trials=30, num_kills=5)


@pytest.mark.slow
def test_fifty_kills_of_the_recorder_lose_and_double_nothing(tmp_path: Path, ring: Ring) -> None:
    _kill_the_recorder(tmp_path, ring, num_trials=500, num_kills=50)


def test_recorder_refused_by_the_learner_is_exit_3(tmp_path: Path, ring: Ring) -> None:
    with IngressProcess(tmp_path / "learner", spec=make_spec(task="pick")) as ingress:
        recorder = RecorderProcess(tmp_path, ring, ingress.address)
        try:
            assert recorder.process.wait(20) == 3
            assert "task: pick here, reach there" in recorder.log.read_text()
        finally:
            recorder.kill()


def test_recorder_without_its_ring_is_exit_3(tmp_path: Path, ring: Ring) -> None:
    ring.unlink()
    recorder = RecorderProcess(tmp_path, ring, "127.0.0.1:9")
    try:
        assert recorder.process.wait(20) == 3
    finally:
        recorder.kill()


# ---- the disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk can be mounted by root only")
    folder = Path(tempfile.mkdtemp(prefix="offworld-small-"))
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=False
    )
    if made.returncode != 0:
        folder.rmdir()
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_learner_s_full_disk_stops_nothing_for_good(small_disk: Path, tmp_path: Path) -> None:
    with IngressProcess(small_disk) as ingress:
        with RunningRecorder(tmp_path / "spool", ingress.address) as running:
            running.record(0)
            wait_until(lambda: len(running.loop.acked) == 1)
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            running.record(1, 2)
            wait_until(lambda: running.loop.is_drained)
            client = LearnerClient(ingress.address)
            wait_until(lambda: client.status().actors[0].spool_trials == 2)
            assert len(running.loop.acked) == 1
            assert running.loop.links[-1] is True
            filler.unlink()
            wait_until(lambda: len(running.loop.acked) == 3, timeout_s=15.0)
            client.close()
        assert_whole(ingress, range(3))
        assert ingress.process.poll() is None


def test_actor_s_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    with IngressProcess(tmp_path / "learner") as ingress:
        with RunningRecorder(
            small_disk / "spool", ingress.address, reserve_bytes=1 << 20
        ) as running:
            running.record(0)
            wait_until(lambda: len(running.loop.acked) == 1)
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
            wait_until(lambda: running.loop.rooms[-1] is False)
            running.record(*range(1, 25))  # more than fits into SQLite's spare pages
            client = LearnerClient(ingress.address)
            client.hello(identity("viewer"))
            assert not running.is_over()
            filler.unlink()
            wait_until(lambda: len(running.loop.acked) == 25, timeout_s=30.0)
            wait_until(lambda: running.loop.rooms[-1] is True)
            client.close()
        assert_whole(ingress, range(25))
