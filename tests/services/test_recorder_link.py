"""Learner and recorder hear of each other at once, and neither's silence holds the other up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from learner.weights import WeightStore
from protos import learner_pb2 as pb
from services import weights_fetcher
from services.client import LearnerClient
from services.records import LoopStatus
from tests.fault_proxy import FaultProxy
from tests.services import recorder_bench
from tests.services.ingress_bench import publish
from tests.services.recorder_bench import RunningRecorder, digests, expected
from tests.services.rig import IngressProcess, wait_until
from tests.services.test_spool import records_of
from tests.wire_data import trial_id_of

ingress = recorder_bench.ingress


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
