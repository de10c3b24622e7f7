"""Every trial of the loop reaches the learner once, whichever side dies on the way."""

from __future__ import annotations

import functools
import json
import logging
import time
from pathlib import Path

import pytest

from learner.store import TrialStore
from protos import codec
from protos.trial import Outcome
from services.client import LearnerClient, LearnerUnavailable
from tests.fault_proxy import FaultProxy
from tests.services import recorder_bench
from tests.services.ingress_bench import publish
from tests.services.recorder_bench import RunningRecorder, digests, expected
from tests.services.rig import SPEC, IngressProcess, deliver, identity, wait_until
from tests.services.test_spool import records_of
from tests.wire_data import make_trial, trial_id_of

ingress = recorder_bench.ingress


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


def test_full_spool_is_said_and_nothing_is_lost(ingress: IngressProcess, tmp_path: Path) -> None:
    with RunningRecorder(tmp_path / "spool", ingress.address, reserve_bytes=1 << 60) as running:
        wait_until(lambda: running.loop.rooms[-1:] == [False])
        running.record(1)  # the trial under way still gets its place
        wait_until(lambda: len(running.loop.acked) == 1)
