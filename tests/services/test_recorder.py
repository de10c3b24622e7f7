"""The recorder between a loop and a learner, both of which come and go."""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store import TrialStore
from learner.weights import WeightStore
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import Outcome, RobotSpec
from services import weights_fetcher
from services.client import ActorIdTaken, LearnerClient, LearnerUnavailable
from services.credentials import ClientSecurity
from services.process import CannotStart
from services.recorder import Recorder, RecorderConfig
from services.records import LoopStatus
from services.spool import SpoolConfig
from tests.fault_proxy import FaultProxy
from tests.services.ingress_bench import COUNTS, publish
from tests.services.rig import SPEC, IngressProcess, ListLoop, deliver, identity, wait_until
from tests.services.test_spool import records_of
from tests.wire_data import make_spec, make_trial, trial_id_of


class RunningRecorder:
    """A recorder on a thread of the test."""

    def __init__(
        self,
        spool: Path,
        address: str,
        *,
        loop: ListLoop | None = None,
        spec: RobotSpec = SPEC,
        reserve_bytes: int = 0,
        incarnation: str = "i-1",
        security: ClientSecurity | None = None,
    ) -> None:
        self.loop = loop or ListLoop()
        config = RecorderConfig(
            learner=address,
            security=security or ClientSecurity(),
            actor_id="arm-1",
            incarnation=incarnation,
            is_sim=True,
            spool=SpoolConfig(root=spool, reserve_bytes=reserve_bytes),
        )
        self.recorder = Recorder(config, spec, self.loop)
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.recorder.run(self._stop)
        except CannotStart as error:
            self.error = error

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20.0)
        assert self.is_over()

    def record(self, *seeds: int) -> list[str]:
        for seed in seeds:
            self.loop.put(records_of(seed))
        return [trial_id_of(seed) for seed in seeds]

    def __enter__(self) -> RunningRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def ingress(tmp_path: Path) -> Iterator[IngressProcess]:
    with IngressProcess(tmp_path / "learner") as process:
        yield process


def digests(ingress: IngressProcess) -> dict[str, str]:
    store = TrialStore.open(ingress.store, read_only=True)
    found = {row.trial_id: store.load(row.trial_id).digest() for row in store.ledger.since(0)}
    store.close()
    return found


def expected(*seeds: int) -> dict[str, str]:
    return {trial_id_of(seed): make_trial(SPEC, seed).digest() for seed in seeds}


def test_trials_reach_the_learner_and_the_loop_is_told(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        ids = running.record(1, 2, 3)
        wait_until(lambda: set(running.loop.acked) == set(ids))
        assert digests(ingress) == expected(1, 2, 3)
        assert sorted(running.loop.acked.values()) == [1, 2, 3]
        wait_until(lambda: running.loop.num_unsent == 0)
        assert running.loop.is_drained
        assert running.loop.links == [True]
        assert running.loop.rooms[0] is True


def test_learner_that_comes_late_gets_everything(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.WARNING)
    with (
        FaultProxy("127.0.0.1:9") as proxy,
        RunningRecorder(tmp_path / "spool", proxy.address) as running,
    ):
        ids = running.record(1, 2)
        wait_until(lambda: running.loop.is_drained)
        wait_until(lambda: running.loop.links == [False] * len(running.loop.links) != [])
        wait_until(lambda: proxy.num_connections >= 3, what="it tries again and again")
        said = [r for r in caplog.records if "event=link_down" in r.getMessage()]
        assert len(said) == 1, "once a change, not once a try"
        with IngressProcess(tmp_path / "learner") as ingress:
            proxy.upstream = ingress.address
            wait_until(lambda: set(running.loop.acked) == set(ids))
            assert digests(ingress) == expected(1, 2)
            assert running.loop.links[-1] is True


def test_restart_of_the_recorder_within_a_trial_loses_nothing(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    records = records_of(4)
    for cut in range(1, len(records)):
        seed = 10 + cut
        records = records_of(seed)
        first = RunningRecorder(tmp_path / "spool", ingress.address)
        first.loop.put(records[:cut])
        wait_until(lambda: first.recorder.spool.open_trial_id == trial_id_of(seed))  # noqa: B023
        first.stop()
        loop = first.loop.restarted()
        loop.put(records[cut:])
        with RunningRecorder(tmp_path / "spool", ingress.address, loop=loop) as second:
            wait_until(lambda: trial_id_of(seed) in second.loop.acked)  # noqa: B023
    assert digests(ingress) == expected(*range(11, 11 + len(records) - 1))


def test_trial_of_a_loop_that_died_is_delivered_as_aborted(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        running.loop.put(records_of(4)[:3])
        running.record(5)
        wait_until(lambda: len(running.loop.acked) == 2)
    store = TrialStore.open(ingress.store, read_only=True)
    lost = store.load(trial_id_of(4))
    assert (lost.outcome, lost.num_steps, lost.is_trainable) == (Outcome.ABORTED, 2, False)
    store.close()


def test_trial_that_nobody_goes_on_with_is_delivered_as_aborted(
    ingress: IngressProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.recorder._RESUME_S", 0.2)
    with RunningRecorder(tmp_path / "spool", ingress.address) as first:
        first.loop.put(records_of(4)[:3])
        wait_until(lambda: first.recorder.spool.open_trial_id is not None)
    with RunningRecorder(tmp_path / "spool", ingress.address) as second:
        wait_until(lambda: trial_id_of(4) in second.loop.acked)
    assert set(digests(ingress)) == {trial_id_of(4)}


def test_last_acknowledgement_is_said_again_after_a_restart(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address) as first:
        first.record(1, 2)
        wait_until(lambda: len(first.loop.acked) == 2)
    with RunningRecorder(tmp_path / "spool", ingress.address) as second:
        wait_until(lambda: second.loop.acked == {trial_id_of(2): 2})


def test_refusal_of_the_last_trial_is_said_again_after_a_restart(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    client = LearnerClient(ingress.address)
    lease = client.hello(identity("other")).lease_token
    deliver(client, lease, make_trial(SPEC, 99, trial_id=trial_id_of(2)))
    client.close()
    with RunningRecorder(tmp_path / "spool", ingress.address) as first:
        first.record(1, 2)
        wait_until(lambda: len(first.loop.acked) == 2)
    with RunningRecorder(tmp_path / "spool", ingress.address) as second:
        wait_until(lambda: second.loop.acked == {trial_id_of(2): 0})


def test_loop_is_told_when_the_learner_is_done_with_a_trial_that_brought_no_weights(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    version = publish(ingress.store)
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        running.record(1)
        wait_until(lambda: len(running.loop.acked) == 1)
        (seq,) = running.loop.acked.values()
        report = {
            "state": "waiting",
            "num_updates": 5,  # those of the weights
            "updates_owed": 0,
            "updates_per_second": 0.0,
            "num_offline_trials": 0,
            "num_online_trials": 0,
            "weights_version": version,
            "ledger_seq": seq,
            "unix_ns": time.time_ns(),
        }
        status = ingress.store / "logs" / "trainer_status.json"
        status.write_text(json.dumps(report))
        wait_until(lambda: running.loop.trained == (version, seq))
        assert not running.loop.has_trainer_failed
        status.write_text(json.dumps(report | {"state": "failed"}))
        wait_until(lambda: running.loop.has_trainer_failed)


def test_refused_trial_stays_on_disk_and_the_others_go_on(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    client = LearnerClient(ingress.address)
    lease = client.hello(identity("other")).lease_token
    deliver(client, lease, make_trial(SPEC, 99, trial_id=trial_id_of(1)))
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        running.record(1, 2)
        wait_until(lambda: len(running.loop.acked) == 2)
        assert running.loop.acked[trial_id_of(1)] == 0
        ((trial_id, reason),) = running.recorder.spool.rejected()
        assert trial_id == trial_id_of(1)
        assert "was committed with digest" in reason
        mine = make_trial(SPEC, 1).digest()
        assert running.recorder.spool.load(trial_id).digest() == mine
        wait_until(lambda: client.status().actors[0].rejected_trials == 1)
    client.close()


def test_upload_is_resumed_with_the_missing_chunks_only(
    ingress: IngressProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks = functools.partial(codec.cut_chunks, chunk_bytes=4096)
    monkeypatch.setattr("protos.codec.cut_chunks", small_chunks)
    monkeypatch.setattr("protos.codec.num_chunks", lambda size, n=4096: max(1, -(-size // n)))
    sent: list[int] = []
    put_chunk = LearnerClient.put_chunk

    def put_and_fail_once(self, lease_token, trial_id, trial, chunk):
        sent.append(chunk.index)
        if sent == [0, 1]:
            raise LearnerUnavailable("PutChunk: cut")
        put_chunk(self, lease_token, trial_id, trial, chunk)

    monkeypatch.setattr(LearnerClient, "put_chunk", put_and_fail_once)
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        running.loop.put(records_of(1, num_steps=25))
        wait_until(lambda: len(running.loop.acked) == 1)
    assert sent == [0, 1, 1]


def test_spec_refused_at_the_start_ends_the_recorder(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    running = RunningRecorder(
        tmp_path / "spool", ingress.address, spec=make_spec(task="pick", max_steps=30)
    )
    wait_until(running.is_over)
    assert "task: reach here, pick there" in str(running.error)
    assert "max_steps" in str(running.error)


def test_spec_refused_later_leaves_it_recording(tmp_path: Path) -> None:
    with (
        IngressProcess(tmp_path / "a") as first,
        FaultProxy(first.address) as proxy,
        RunningRecorder(tmp_path / "spool", proxy.address) as running,
    ):
        running.record(1)
        wait_until(lambda: len(running.loop.acked) == 1)
        with IngressProcess(tmp_path / "b", spec=make_spec(task="pick")) as other:
            first.kill()
            proxy.upstream = other.address
            proxy.reset()
            wait_until(lambda: running.loop.links[-1] is False)
            running.record(2)
            wait_until(lambda: running.loop.num_unsent == 1 and running.loop.is_drained)
            assert not running.is_over()


class OtherActor:
    """Another process under the recorder's actor id, which is heard whenever it is told to."""

    def __init__(self, address: str) -> None:
        self.client = LearnerClient(address)
        self.lease_token = 0

    def is_accepted(self) -> bool:
        try:
            self.lease_token = self.client.hello(identity(incarnation="other")).lease_token
        except ActorIdTaken:
            return False
        return True

    def is_heard(self) -> bool:
        self.client.heartbeat(self.lease_token, LoopStatus(), COUNTS)
        return True

    def leave(self) -> None:
        self.client.heartbeat(self.lease_token, LoopStatus(), COUNTS, is_leaving=True)
        self.client.close()


def test_one_that_was_taken_over_ends_and_its_trials_wait_for_the_next(tmp_path: Path) -> None:
    with (
        IngressProcess(tmp_path / "learner", arguments=["--lease-ttl-s", "2"]) as ingress,
        FaultProxy(ingress.address) as proxy,
    ):
        running = RunningRecorder(tmp_path / "spool", proxy.address)
        running.record(1)
        wait_until(lambda: len(running.loop.acked) == 1)
        proxy.cut()
        running.record(2, 3)
        wait_until(lambda: running.loop.is_drained)
        other = OtherActor(ingress.address)
        wait_until(other.is_accepted, what="the lease of the one that was cut off lapses")
        proxy.heal()
        wait_until(lambda: other.is_heard() and running.is_over(), what="the old one ends")
        assert isinstance(running.error, CannotStart)
        assert "arm-1 was taken over by another process" in str(running.error)
        assert f"2 trials are kept in {tmp_path / 'spool'}" in str(running.error)
        assert running.loop.links[-1] is False
        assert digests(ingress) == expected(1)
        other.leave()
        with RunningRecorder(tmp_path / "spool", ingress.address, incarnation="i-2") as again:
            wait_until(lambda: len(again.loop.acked) == 3, what="the rest is delivered")
        assert digests(ingress) == expected(1, 2, 3)


def test_one_whose_id_is_in_use_waits_for_the_lease_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with IngressProcess(tmp_path / "learner", arguments=["--lease-ttl-s", "1"]) as ingress:
        other = OtherActor(ingress.address)
        assert other.is_accepted()
        began = time.monotonic()
        running = RunningRecorder(tmp_path / "spool", ingress.address)
        running.record(1)
        wait_until(lambda: other.is_heard() and running.is_over(), what="it gives up")
        took_s = time.monotonic() - began
        assert "arm-1 is in use" in str(running.error)
        assert f"1 trials are kept in {tmp_path / 'spool'}" in str(running.error)
        assert caplog.text.count("event=actor_id_taken up_to_s=2.0") == 1
        assert took_s > 2.0, "the other one could have been dead"
        assert digests(ingress) == {}
        other.leave()


def test_one_that_died_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with IngressProcess(tmp_path / "learner", arguments=["--lease-ttl-s", "1"]) as ingress:
        dead = OtherActor(ingress.address)
        assert dead.is_accepted()
        dead.client.close()
        with RunningRecorder(tmp_path / "spool", ingress.address) as running:
            running.record(1)
            wait_until(lambda: len(running.loop.acked) == 1)
        assert "event=actor_id_taken" in caplog.text


def test_full_spool_is_said_and_nothing_is_lost(ingress: IngressProcess, tmp_path: Path) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address, reserve_bytes=1 << 60) as running:
        wait_until(lambda: running.loop.rooms[-1:] == [False])
        running.record(1)  # the trial under way still gets its place
        wait_until(lambda: len(running.loop.acked) == 1)


def test_heartbeat_tells_the_learner_how_the_robot_is(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    client = LearnerClient(ingress.address)
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        running.loop.loop_status = LoopStatus(state="fault", weights_version=7, fault="C31")
        wait_until(lambda: any(actor.fault for actor in client.status().actors))
        (actor,) = client.status().actors
        assert (actor.loop_state, actor.weights_version, actor.fault) == ("fault", 7, "C31")
        assert actor.is_alive
    assert list(client.status().actors) == [], "it said goodbye"
    client.close()


def test_viewer_hears_steps_while_the_trial_runs(ingress: IngressProcess, tmp_path: Path) -> None:
    client = LearnerClient(ingress.address)
    heard: list[pb.LiveEvent] = []
    stop = threading.Event()

    def listen() -> None:
        for reply in client.tail_log(is_following=True, stop=stop):
            if reply.WhichOneof("event") == "live":
                heard.append(reply.live)

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        records = records_of(1)
        running.loop.put(records[:2])
        wait_until(lambda: running.recorder.spool.open_trial_id is not None)

        def is_heard() -> bool:  # a new reader hears what comes after it came on
            running.loop.put(records[1:2])
            return any(event.kind == pb.LIVE_KIND_STEP for event in heard)

        wait_until(is_heard)
        assert {event.trial_id for event in heard} == {trial_id_of(1)}
        assert {event.actor_id for event in heard} == {"arm-1"}
        running.loop.put(records[2:])
        wait_until(lambda: any(e.kind == pb.LIVE_KIND_TRIAL_ENDED for e in heard))
        ended = next(e for e in heard if e.kind == pb.LIVE_KIND_TRIAL_ENDED)
        assert ended.outcome == "failure"
        running.loop.loop_status = LoopStatus(state="fault", fault="C31 collision")
        wait_until(lambda: any(e.kind == pb.LIVE_KIND_FAULT for e in heard))
        assert [e.text for e in heard if e.kind == pb.LIVE_KIND_FAULT] == ["C31 collision"]
    stop.set()
    client.close()
    reader.join(10.0)
    assert not reader.is_alive()


def test_weights_are_on_the_actor_s_disk_as_soon_as_they_are_published(
    ingress: IngressProcess, tmp_path: Path
) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        wait_until(lambda: running.loop.links == [True])
        for _ in range(3):
            version = publish(ingress.store, size=250_000)
            # Long before anybody would look again of his own accord.
            wait_until(
                lambda version=version: running.loop.weights[-1:] == [version],
                timeout_s=weights_fetcher.WAIT_S / 2,
            )
            WeightStore(tmp_path / "spool" / "weights").load(version)


def test_frozen_learner_is_noticed_and_comes_back(ingress: IngressProcess, tmp_path: Path) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        wait_until(lambda: running.loop.links == [True])
        ingress.freeze()
        began = time.monotonic()
        running.record(1)
        wait_until(lambda: running.loop.links[-1] is False, timeout_s=15.0)
        noticed_s = time.monotonic() - began
        ingress.thaw()
        began = time.monotonic()
        wait_until(lambda: running.loop.links[-1] is True, timeout_s=15.0)
        wait_until(lambda: trial_id_of(1) in running.loop.acked, timeout_s=15.0)
        assert noticed_s <= 15.0
    assert digests(ingress) == expected(1)


def test_stop_is_quick_while_the_learner_is_frozen(ingress: IngressProcess, tmp_path: Path) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address) as running:
        wait_until(lambda: running.loop.links == [True])
        ingress.freeze()
        running.record(1)
        wait_until(lambda: running.loop.is_drained)
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began <= 10.0
        ingress.thaw()


def test_stop_does_not_wait_for_a_learner_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.uploader._LOOK_S", 60.0)
    with FaultProxy("127.0.0.1:9") as proxy:
        running = RunningRecorder(tmp_path / "spool", proxy.address)
        running.record(1)
        wait_until(lambda: running.loop.is_drained and running.loop.num_unsent == 1)
        wait_until(lambda: proxy.num_connections > 0, what="it looks for its learner")
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < 30.0
