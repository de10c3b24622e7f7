"""Whoever asks hears each trial, what happens meanwhile, and how learner and actors are."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from learner.ledger import Ledger
from protos import learner_pb2 as pb
from protos.trial import Trial
from services.client import LearnerClient
from services.pulse import MAX_REASON_CHARS
from services.records import LoopStatus
from tests.services import ingress_bench
from tests.services.ingress_bench import COUNTS, publish
from tests.services.rig import SPEC, IngressProcess, deliver, identity, wait_until
from tests.wire_data import make_trial

ingress = ingress_bench.ingress
client = ingress_bench.client
lease = ingress_bench.lease
trial = ingress_bench.trial


def ledger_of(ingress: IngressProcess) -> Ledger:
    return Ledger.open(ingress.store / "ledger.sqlite", read_only=True)


def test_tail_replays_every_trial_and_resumes_at_the_cursor(
    ingress: IngressProcess, client: LearnerClient, lease: int
) -> None:
    for seed in range(3):
        deliver(client, lease, make_trial(SPEC, 5000 + seed))
    told = list(client.tail_log(is_following=False, with_live_events=False))
    seqs = [reply.trial.ledger_seq for reply in told]
    ledger = ledger_of(ingress)
    assert seqs == [row.ledger_seq for row in ledger.since(0)]
    assert [r.trial.trial_digest for r in told] == [row.digest for row in ledger.since(0)]
    ledger.close()
    rest = client.tail_log(told[-2].cursor, is_following=False, with_live_events=False)
    assert [reply.trial.ledger_seq for reply in rest] == seqs[-1:]


def test_follower_hears_trials_and_live_events(client: LearnerClient, lease: int) -> None:
    told = list(client.tail_log(is_following=False, with_live_events=False))
    heard: list[pb.TailLogReply] = []

    def listen() -> None:
        for reply in client.tail_log(told[-1].cursor if told else None, is_following=True):
            heard.append(reply)
            if reply.WhichOneof("event") == "trial":
                return

    reader = threading.Thread(target=listen)
    reader.start()
    event = pb.LiveEvent(kind=pb.LIVE_KIND_STEP, step_index=4, text="grasped", reward=1.0)

    def is_heard() -> bool:  # who is new hears events from when it came on
        client.put_log(lease, [event], 0)
        return bool(heard)

    wait_until(is_heard)
    trial = make_trial(SPEC, 6001)
    deliver(client, lease, trial)
    reader.join(20.0)
    assert not reader.is_alive()
    assert (heard[0].live.text, heard[0].live.reward) == ("grasped", 1.0)
    assert heard[0].live.actor_id.startswith("a")
    assert heard[-1].trial.trial_id == trial.trial_id


def test_what_a_live_event_has_beyond_its_fields_is_not_kept(
    client: LearnerClient, lease: int, trial: Trial
) -> None:
    deliver(client, lease, trial)  # so that the log has a place to read on from
    start = list(client.tail_log(is_following=False))[-1].cursor
    unknown = b"\xa2\x06\x84\x07" + bytes(900)  # field 100, as a newer actor would send it
    event = pb.LiveEvent.FromString(
        pb.LiveEvent(kind=pb.LIVE_KIND_NOTE, text="padded").SerializeToString() + unknown
    )
    assert event.ByteSize() > 900
    client.put_log(lease, [event], 0)
    told = [reply.live for reply in client.tail_log(start, is_following=False)]
    (kept,) = [live for live in told if live.text == "padded"]
    assert kept.ByteSize() < 100


def test_reader_that_is_behind_is_told_how_much_it_missed(
    client: LearnerClient, lease: int, trial: Trial
) -> None:
    events = [pb.LiveEvent(kind=pb.LIVE_KIND_STEP, step_index=i) for i in range(256)]
    deliver(client, lease, trial)  # so that the log has a place to read on from
    at = list(client.tail_log(is_following=False))
    start = pb.LogCursor(ledger_seq=1 << 40, log_epoch=at[-1].cursor.log_epoch, log_offset=0)
    for _ in range(20):
        client.put_log(lease, events, 3)
    told = list(client.tail_log(start, is_following=False))
    assert told[0].dropped.num_events > 0
    live = [reply for reply in told if reply.WhichOneof("event") == "live"]
    assert len(live) == 4096
    offsets = [reply.cursor.log_offset for reply in live]
    assert offsets == list(range(told[0].dropped.num_events + 1, offsets[-1] + 1))
    assert any("3 events were dropped" in reply.live.text for reply in live)


def test_ledger_is_paged(client: LearnerClient, lease: int) -> None:
    for seed in range(5):
        deliver(client, lease, make_trial(SPEC, 7000 + seed))
    whole = client.list_trials()
    pages, after = [], 0
    while (page := client.list_trials(after, limit=2)).trials:
        assert len(page.trials) <= 2
        pages += page.trials
        after = page.last_ledger_seq
    assert pages == list(whole.trials)


def test_status_says_how_things_are(
    ingress: IngressProcess, client: LearnerClient, lease: int, trial: Trial
) -> None:
    reply = deliver(client, lease, trial)
    client.heartbeat(
        lease, LoopStatus(state="in_trial", weights_version=3, fault="C31 collision"), COUNTS
    )
    wait_until(lambda: client.status().ledger_seq >= reply.ledger_seq)
    status = client.status()
    mine = next(actor for actor in status.actors if actor.fault)
    assert (mine.loop_state, mine.weights_version, mine.spool_trials) == ("in_trial", 3, 2)
    assert (mine.is_alive, mine.rejected_trials) == (True, 1)
    assert abs(mine.clock_offset_s) < 5.0
    assert (status.task, status.spec_digest) == (SPEC.task, SPEC.digest())
    assert status.disk_free_bytes > 0
    assert not status.HasField("trainer")


def test_trainer_s_report_reaches_actors_and_viewers(tmp_path: Path) -> None:
    with IngressProcess(tmp_path) as ingress:
        client = LearnerClient(ingress.address)
        lease = client.hello(identity()).lease_token
        report = {
            "state": "finetuning",
            "waiting_for": "no space left " + 1_000 * "x",
            "num_updates": 10,
            "updates_owed": 4,
            "updates_per_second": 2.5,
            "num_offline_trials": 3,
            "num_online_trials": 1,
            "weights_version": 2,
            "ledger_seq": 4,
            "pid": 1,
            "unix_ns": time.time_ns() - 3 * 10**9,
        }
        (ingress.store / "logs" / "trainer_status.json").write_text(json.dumps(report))
        version = publish(ingress.store, ledger_seq=4)
        wait_until(lambda: client.status().latest_weights.version == version)
        wait_until(lambda: client.status().trainer.state == "finetuning")
        reply = client.heartbeat(lease, LoopStatus(), COUNTS)
        assert reply.trained_ledger_seq == 4
        assert (reply.trainer.updates_owed, reply.trainer.updates_per_second) == (4, 2.5)
        assert 3.0 <= reply.trainer.status_age_s < 60.0
        assert reply.trainer.waiting_for.startswith("no space left x")
        assert len(reply.trainer.waiting_for) == MAX_REASON_CHARS
        client.close()


def test_health_says_serving(ingress: IngressProcess) -> None:
    with grpc.insecure_channel(ingress.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "offworld.v1.Learner"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
