"""The ingress as a process: what it takes, what it refuses, what it answers afterwards."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from learner.ledger import Ledger
from learner.store import TrialStore
from learner.weights import WeightStore
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import SpecMismatch, Trial, TrialRejected
from services.client import (
    ActorIdentity,
    ActorIdTaken,
    LearnerClient,
    LearnerRefused,
    LearnerUnavailable,
    WeightsGone,
)
from services.leases import LeaseLost
from services.pulse import MAX_REASON_CHARS
from services.records import LoopStatus
from services.spool import SpoolCounts
from tests.services.rig import (
    ROOT,
    SPEC,
    IngressProcess,
    deliver,
    identity,
    is_gone,
    raw_stub,
    wait_until,
)
from tests.wire_data import make_spec, make_trial

COUNTS = SpoolCounts(num_open=0, num_ready=2, num_acked=0, num_rejected=1, ready_bytes=5)


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngressProcess]:
    with IngressProcess(tmp_path_factory.mktemp("ingress")) as process:
        yield process
        assert process.process.poll() is None, process.log_text()


@pytest.fixture
def client(ingress: IngressProcess) -> Iterator[LearnerClient]:
    made = LearnerClient(ingress.address)
    yield made
    made.close()


@pytest.fixture
def lease(client: LearnerClient, request: pytest.FixtureRequest) -> int:
    return client.hello(identity(f"a{abs(hash(request.node.name))}")).lease_token


@pytest.fixture
def trial() -> Trial:
    seed = random.SystemRandom().randrange(1 << 30)
    return make_trial(SPEC, seed)


def ledger_of(ingress: IngressProcess) -> Ledger:
    return Ledger.open(ingress.store / "ledger.sqlite", read_only=True)


# ---- trials -------------------------------------------------------------------------------------


def test_stored_trial_is_in_the_store_as_it_was_sent(
    ingress: IngressProcess, client: LearnerClient, lease: int, trial: Trial
) -> None:
    reply = deliver(client, lease, trial)
    assert reply.verdict == pb.COMMIT_VERDICT_STORED
    store = TrialStore.open(ingress.store, read_only=True)
    assert store.load(trial.trial_id).digest() == trial.digest()
    (row,) = [r for r in store.ledger.since(0) if r.trial_id == trial.trial_id]
    assert row.ledger_seq == reply.ledger_seq
    assert not (ingress.store / "staging" / trial.trial_id).exists()
    store.close()


def test_same_trial_again_is_a_duplicate_and_a_success(
    client: LearnerClient, lease: int, trial: Trial
) -> None:
    first = deliver(client, lease, trial)
    second = deliver(client, lease, trial)
    assert second.verdict == pb.COMMIT_VERDICT_DUPLICATE
    assert second.ledger_seq == first.ledger_seq


def test_commit_without_chunks_after_a_lost_answer_is_a_duplicate(
    client: LearnerClient, lease: int, trial: Trial
) -> None:
    first = deliver(client, lease, trial)
    reply = client.commit_trial(lease, trial.trial_id, codec.encode_trial(trial))
    assert (reply.verdict, reply.ledger_seq) == (pb.COMMIT_VERDICT_DUPLICATE, first.ledger_seq)


def test_other_trial_under_the_same_id_is_kept_apart(
    ingress: IngressProcess, client: LearnerClient, lease: int, trial: Trial
) -> None:
    deliver(client, lease, trial)
    other = make_trial(SPEC, 12345, trial_id=trial.trial_id)
    with pytest.raises(TrialRejected, match="was committed with digest"):
        deliver(client, lease, other)
    store = TrialStore.open(ingress.store, read_only=True)
    assert store.load(trial.trial_id).digest() == trial.digest()
    assert trial.trial_id in {row.trial_id for row in store.ledger.quarantined()}
    assert list((ingress.store / "quarantine").glob(f"{trial.trial_id}*"))
    store.close()
    (holding,) = client.query_trials([trial.trial_id])
    assert (holding.state, holding.trial_digest) == (pb.TRIAL_STATE_STORED, trial.digest())


def test_upload_is_resumed_where_it_stopped(client: LearnerClient, lease: int) -> None:
    spec = make_spec()
    trial = make_trial(spec, 77, num_steps=25)
    encoded = codec.encode_trial(trial)
    chunks = list(codec.cut_chunks(encoded.payload, chunk_bytes=4096))
    assert len(chunks) == 2
    (holding,) = client.query_trials([trial.trial_id])
    assert holding.state == pb.TRIAL_STATE_MISSING
    client.put_chunk(lease, trial.trial_id, encoded, chunks[1])
    (holding,) = client.query_trials([trial.trial_id])
    assert holding.state == pb.TRIAL_STATE_STAGED
    assert holding.payload_sha256 == encoded.payload_sha256
    assert [(r.first, r.count) for r in holding.received] == [(1, 1)]
    reply = client.commit_trial(lease, trial.trial_id, encoded)
    assert reply.verdict == pb.COMMIT_VERDICT_INCOMPLETE
    assert [(r.first, r.count) for r in reply.received] == [(1, 1)]
    client.put_chunk(lease, trial.trial_id, encoded, chunks[0])
    stored = client.commit_trial(lease, trial.trial_id, encoded)
    assert stored.verdict == pb.COMMIT_VERDICT_STORED
    (holding,) = client.query_trials([trial.trial_id])
    assert (holding.state, holding.ledger_seq) == (pb.TRIAL_STATE_STORED, stored.ledger_seq)


def test_chunks_in_any_order_any_number_of_times_make_the_trial(
    ingress: IngressProcess, client: LearnerClient, lease: int
) -> None:
    trial = make_trial(make_spec(), 78, num_steps=25)
    encoded = codec.encode_trial(trial)
    chunks = list(codec.cut_chunks(encoded.payload, chunk_bytes=4096)) * 3
    random.Random(0).shuffle(chunks)
    for chunk in chunks:
        client.put_chunk(lease, trial.trial_id, encoded, chunk)
    reply = client.commit_trial(lease, trial.trial_id, encoded)
    assert reply.verdict == pb.COMMIT_VERDICT_STORED
    client.put_chunk(lease, trial.trial_id, encoded, chunks[0])  # came late
    (holding,) = client.query_trials([trial.trial_id])
    assert holding.state == pb.TRIAL_STATE_STORED
    assert not (ingress.store / "staging" / trial.trial_id).exists()


def test_damaged_chunk_is_asked_for_again(client: LearnerClient, lease: int, trial: Trial) -> None:
    encoded = codec.encode_trial(trial)
    (chunk,) = codec.cut_chunks(encoded.payload)
    flipped = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
    damaged = codec.Chunk(index=0, count=1, offset=0, data=flipped, crc32=chunk.crc32)
    with pytest.raises(LearnerUnavailable, match="send it again"):
        client.put_chunk(lease, trial.trial_id, encoded, damaged)
    assert client.query_trials([trial.trial_id])[0].state == pb.TRIAL_STATE_MISSING


def test_chunk_with_a_right_checksum_of_wrong_data_is_noticed_at_the_commit(
    client: LearnerClient, lease: int, trial: Trial
) -> None:
    encoded = codec.encode_trial(trial)
    (wrong,) = codec.cut_chunks(bytes(len(encoded.payload)))
    client.put_chunk(lease, trial.trial_id, encoded, wrong)
    reply = client.commit_trial(lease, trial.trial_id, encoded)
    assert reply.verdict == pb.COMMIT_VERDICT_INCOMPLETE
    assert list(reply.received) == []
    assert deliver(client, lease, trial).verdict == pb.COMMIT_VERDICT_STORED


def _with_column(trial: Trial, name: str, array: np.ndarray) -> codec.EncodedTrial:
    """An honest upload of a trial whose one column is something else."""
    columns = trial.columns() | {name: array}
    manifest = pb.TrialManifest(header_json=json.dumps(trial.header()))
    for key, value in sorted(columns.items()):
        manifest.columns.add(
            name=key, dtype=value.dtype.name, shape=value.shape, num_bytes=value.nbytes
        )
    payload = b"".join(value.tobytes() for _, value in sorted(columns.items()))
    manifest.payload_bytes = len(payload)
    import hashlib

    return codec.EncodedTrial(
        manifest=manifest,
        payload=payload,
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        trial_digest="0" * 64,
    )


def _state_with_nan(trial: Trial) -> np.ndarray:
    state = trial.observations["state"].copy()
    state[2, 3] = np.nan
    return state


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("observation/state", lambda t: t.observations["state"].astype(np.float64), "float64"),
        ("observation/state", lambda t: t.observations["state"][:-1], "expected"),
        ("observation/state", lambda t: t.observations["state"][:, :7], "expected"),
        ("observation/state", _state_with_nan, "not finite"),
        ("observation/extra", lambda t: t.observations["state"], "unexpected"),
        ("step/action", lambda t: t.steps["action"] + 2.0, "outside"),
        ("step/terminated", lambda t: np.ones(t.num_steps, bool), "marked as the end"),
    ],
)
def test_trial_that_breaks_an_invariant_is_refused_and_kept_apart(
    ingress: IngressProcess,
    client: LearnerClient,
    lease: int,
    trial: Trial,
    name: str,
    array,
    message: str,
) -> None:
    encoded = _with_column(trial, name, array(trial))
    for chunk in codec.cut_chunks(encoded.payload):
        client.put_chunk(lease, trial.trial_id, encoded, chunk)
    with pytest.raises(TrialRejected, match=message):
        client.commit_trial(lease, trial.trial_id, encoded)
    (holding,) = client.query_trials([trial.trial_id])
    assert holding.state == pb.TRIAL_STATE_REJECTED
    assert message in holding.reason
    (kept,) = (ingress.store / "quarantine").glob(f"{trial.trial_id}*")
    assert (kept / "payload").read_bytes() == encoded.payload
    assert message in (kept / "reason.txt").read_text()
    assert deliver(client, lease, trial).verdict == pb.COMMIT_VERDICT_STORED


def test_trial_of_another_spec_is_refused_with_the_difference(
    client: LearnerClient, lease: int
) -> None:
    trial = make_trial(make_spec(image_size=10), 991)
    with pytest.raises(TrialRejected, match=r"image.front.*shape: \(8, 8, 3\) here, \(10, 10, 3\)"):
        deliver(client, lease, trial)


def test_announced_digest_must_be_the_trial_s(
    client: LearnerClient, lease: int, trial: Trial
) -> None:
    encoded = codec.encode_trial(trial)
    for chunk in codec.cut_chunks(encoded.payload):
        client.put_chunk(lease, trial.trial_id, encoded, chunk)
    wrong = codec.EncodedTrial(
        manifest=encoded.manifest,
        payload=encoded.payload,
        payload_sha256=encoded.payload_sha256,
        trial_digest="f" * 64,
    )
    with pytest.raises(TrialRejected, match="another digest"):
        client.commit_trial(lease, trial.trial_id, wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trial_id": "../../etc/passwd"}, "not a UUID"),
        ({"trial_id": "0" * 10_000}, "not a UUID"),
        ({"trial_id": "\x00"}, "not a UUID"),
        ({"total_bytes": 1 << 40}, "is the limit"),
        ({"index": 7}, "chunk 7 of 1"),
        ({"count": 1 << 31, "index": 0}, "are taken"),
        ({"offset": 1 << 63}, "does not fit"),
        ({"payload_sha256": "../x"}, "hexadecimal"),
        ({"total_bytes": 5}, "does not fit"),
    ],
)
def test_chunk_that_makes_no_sense_is_refused(
    ingress: IngressProcess, lease: int, trial: Trial, change: dict, message: str
) -> None:
    encoded = codec.encode_trial(trial)
    (chunk,) = codec.cut_chunks(encoded.payload)
    request = pb.PutChunkRequest(
        lease_token=lease,
        trial_id=trial.trial_id,
        payload_sha256=encoded.payload_sha256,
        total_bytes=len(encoded.payload),
        index=0,
        count=1,
        offset=0,
        crc32=chunk.crc32,
        data=chunk.data,
    )
    for name, value in change.items():
        setattr(request, name, value)
    channel, stub = raw_stub(ingress.address)
    with channel, pytest.raises(grpc.RpcError) as caught:
        stub.PutChunk(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.details()


def test_message_above_the_limit_is_refused(ingress: IngressProcess, lease: int) -> None:
    channel, stub = raw_stub(ingress.address)
    with channel, pytest.raises(grpc.RpcError) as caught:
        stub.PutChunk(pb.PutChunkRequest(lease_token=lease, data=bytes(5 << 20)), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# ---- the handshake and the lease ----------------------------------------------------------------


def test_hello_brings_what_an_actor_needs(ingress: IngressProcess, client: LearnerClient) -> None:
    reply = client.hello(identity("newcomer"))
    assert reply.policy_config_json == '{"kind": "none"}'
    assert reply.run_id == (ingress.store / "run_id").read_text().strip()
    assert reply.lease_ttl_s == 5.0
    assert reply.limits.max_chunk_bytes == codec.MAX_CHUNK_BYTES


def test_hello_with_another_robot_lists_the_fields(client: LearnerClient) -> None:
    other = make_spec(image_size=10, max_steps=30, task="pick")
    who = ActorIdentity(actor_id="x", incarnation="i", is_sim=True, spec=other)
    with pytest.raises(SpecMismatch) as caught:
        client.hello(who)
    text = str(caught.value)
    assert "max_steps: 25 here, 30 there" in text
    assert "task: reach here, pick there" in text
    assert "observations[image.front].shape: (8, 8, 3) here, (10, 10, 3) there" in text


def hello_request(**changes) -> pb.HelloRequest:
    fields = {
        "proto_major": codec.PROTO_MAJOR,
        "actor_id": "h",
        "incarnation": "i",
        "kind": pb.ACTOR_KIND_REAL,
        "spec_json": SPEC.to_json(),
        "spec_digest": SPEC.digest(),
        "control_hz": SPEC.control_hz,
    }
    return pb.HelloRequest(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"proto_major": 2}, pb.HELLO_VERDICT_UPGRADE, "upgrade the learner"),
        ({"proto_major": 0}, pb.HELLO_VERDICT_UPGRADE, "upgrade the actor"),
        ({"spec_json": "{"}, pb.HELLO_VERDICT_SPEC_MISMATCH, "not a robot spec"),
        ({"spec_json": "[" * 50_000}, pb.HELLO_VERDICT_SPEC_MISMATCH, "not a robot spec"),
        ({"control_hz": 12.5}, pb.HELLO_VERDICT_SPEC_MISMATCH, "control_hz"),
        ({"spec_digest": "0"}, pb.HELLO_VERDICT_SPEC_MISMATCH, "spec_digest"),
        ({"proto_minor": 9}, pb.HELLO_VERDICT_OK, ""),
    ],
)
def test_hello_is_answered_with_a_reason(
    ingress: IngressProcess, changes: dict, verdict: int, words: str
) -> None:
    channel, stub = raw_stub(ingress.address)
    with channel:
        reply = stub.Hello(hello_request(**changes), timeout=10)
    assert reply.verdict == verdict
    assert words in reply.message + " ".join(reply.difference)
    assert bool(reply.lease_token) == (verdict == pb.HELLO_VERDICT_OK)


@pytest.mark.parametrize(
    "changes",
    [{"actor_id": ""}, {"actor_id": "../x"}, {"actor_id": "a" * 65}, {"incarnation": "\x1b[2J"}]
    + [{"kind": 0}, {"kind": 7}],
)
def test_hello_that_makes_no_sense_is_refused(ingress: IngressProcess, changes: dict) -> None:
    channel, stub = raw_stub(ingress.address)
    with channel, pytest.raises(grpc.RpcError) as caught:
        stub.Hello(hello_request(**changes), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_client_names_the_refusal_of_a_bad_actor_id(client: LearnerClient) -> None:
    with pytest.raises(LearnerRefused, match="actor_id"):
        client.hello(identity("no spaces please"))


def test_second_live_actor_with_the_same_id_must_wait(client: LearnerClient) -> None:
    first = client.hello(identity("twin", "one")).lease_token
    with pytest.raises(ActorIdTaken, match="held by another process"):
        client.hello(identity("twin", "two"))
    client.heartbeat(first, LoopStatus(), COUNTS, is_leaving=True)
    client.hello(identity("twin", "two"))


def test_silent_actor_is_replaced_and_its_old_self_fenced(tmp_path: Path, trial: Trial) -> None:
    with IngressProcess(tmp_path, arguments=["--lease-ttl-s", "0.3"]) as ingress:
        client = LearnerClient(ingress.address)
        old = client.hello(identity("zombie", "one")).lease_token
        encoded = codec.encode_trial(trial)
        (chunk,) = codec.cut_chunks(encoded.payload)
        client.put_chunk(old, trial.trial_id, encoded, chunk)

        def takes_over() -> bool:
            try:
                client.hello(identity("zombie", "two"))
            except ActorIdTaken:
                return False
            return True

        wait_until(takes_over, timeout_s=5.0)
        with pytest.raises(LeaseLost):
            client.put_chunk(old, trial.trial_id, encoded, chunk)
        with pytest.raises(LeaseLost):
            client.commit_trial(old, trial.trial_id, encoded)
        with pytest.raises(LeaseLost):
            client.put_log(old, [], 0)
        with pytest.raises(LeaseLost):
            client.heartbeat(old, LoopStatus(), COUNTS)
        assert client.query_trials([trial.trial_id])[0].state == pb.TRIAL_STATE_STAGED
        client.close()


# ---- weights ------------------------------------------------------------------------------------


def publish(store: Path, *, size: int = 10, ledger_seq: int = 0) -> int:
    weights = WeightStore(store / "weights")
    tensors = {"a": np.arange(size, dtype=np.float32), "b": np.ones((2, 3), np.float32)}
    return weights.publish(
        tensors,
        train_step=5,
        spec_digest=SPEC.digest(),
        policy_config="{}",
        ledger_seq=ledger_seq,
        num_online_trials=0,
        learner_id="t",
    ).version


def test_waiter_is_told_of_new_weights_before_its_wait_is_over(
    ingress: IngressProcess, client: LearnerClient
) -> None:
    now = client.weights_manifest(0, 0.0).weights.version
    heard: list[tuple[int, float]] = []

    def wait() -> None:
        reply = client.weights_manifest(now, 20.0)
        heard.append((reply.weights.version, time.monotonic()))

    waiter = threading.Thread(target=wait)
    waiter.start()
    published = publish(ingress.store)
    at = time.monotonic()
    waiter.join(20.0)
    assert heard[0][0] == published
    assert heard[0][1] - at < 10.0


def test_nothing_new_is_said_after_the_wait(ingress: IngressProcess, client: LearnerClient) -> None:
    version = publish(ingress.store)
    wait_until(lambda: client.weights_manifest(0, 0.0).weights.version == version)
    reply = client.weights_manifest(version, 0.05)
    assert not reply.HasField("weights")


@pytest.mark.parametrize("wait_s", [float("nan"), -1.0, float("-inf")])
def test_a_wait_that_is_none_is_no_wait(
    ingress: IngressProcess, client: LearnerClient, wait_s: float
) -> None:
    del client
    channel, stub = raw_stub(ingress.address)
    request = pb.GetWeightsManifestRequest(after_version=1 << 40, wait_s=wait_s)
    with channel:
        assert not stub.GetWeightsManifest(request, timeout=10).HasField("weights")


def test_weights_come_in_pieces(ingress: IngressProcess, client: LearnerClient) -> None:
    version = publish(ingress.store, size=1000)
    whole = (ingress.store / "weights" / str(version) / "weights.safetensors").read_bytes()
    pieces = [client.weights_chunk(version, offset, 1000) for offset in range(0, len(whole), 1000)]
    assert b"".join(pieces) == whole


def test_version_that_is_not_there_is_gone(client: LearnerClient) -> None:
    with pytest.raises(WeightsGone):
        client.weights_chunk(10**12, 0, 10)
    with pytest.raises(LearnerUnavailable, match="INVALID_ARGUMENT"):
        client.weights_chunk(1, 0, 1 << 30)


# ---- logs and status ----------------------------------------------------------------------------


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


# ---- the process --------------------------------------------------------------------------------


def test_sigterm_ends_it_with_0_while_callers_wait(tmp_path: Path) -> None:
    with IngressProcess(tmp_path) as ingress:
        client = LearnerClient(ingress.address)
        deliver(client, client.hello(identity()).lease_token, make_trial(SPEC, 1))
        stop = threading.Event()
        tail = client.tail_log(is_following=True, stop=stop)
        assert next(tail).trial.ledger_seq == 1  # from here on it waits at the learner
        poll = threading.Thread(target=_wait_for_weights, args=(client,))
        poll.start()
        began = time.monotonic()
        assert ingress.stop() == 0
        assert time.monotonic() - began < 5.0
        stop.set()
        assert list(tail) == []
        client.close()
        poll.join(10.0)
        assert not poll.is_alive()


def _wait_for_weights(client: LearnerClient) -> None:
    with contextlib.suppress(LearnerUnavailable):  # or sent home with nothing
        client.weights_manifest(0, 25.0)


def test_port_in_use_is_exit_3(ingress: IngressProcess, tmp_path: Path) -> None:
    with IngressProcess(tmp_path, arguments=["--listen", ingress.address]) as second:
        assert second.process.wait(20) == 3
        assert f"cannot listen on {ingress.address}" in second.log_text()


def test_store_in_use_is_exit_3(ingress: IngressProcess, tmp_path: Path) -> None:
    with IngressProcess(tmp_path, arguments=["--store", str(ingress.store)]) as second:
        assert second.process.wait(20) == 3
        assert "in use by process" in second.log_text()


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1", "127.0.0.1:http", "192.0.2.1:0"])
def test_address_that_is_none_is_exit_3(tmp_path: Path, listen: str) -> None:
    with IngressProcess(tmp_path, arguments=["--listen", listen]) as process:
        assert process.process.wait(20) == 3
        assert f"cannot listen on {listen!r}".replace("'", "") in process.log_text().replace(
            "'", ""
        )


def test_store_of_another_version_is_exit_3_and_left_alone(tmp_path: Path) -> None:
    with IngressProcess(tmp_path) as first:
        assert first.stop() == 0
    with sqlite3.connect(first.store / "ledger.sqlite") as ledger:
        ledger.execute("PRAGMA user_version = 99")
    ledger.close()
    with IngressProcess(tmp_path) as second:
        assert second.process.wait(20) == 3
        assert "99" in second.log_text()


PARENT = """
import sys, time
from pathlib import Path
from tests.services.rig import IngressProcess

process = IngressProcess(Path(sys.argv[1]))
print(process.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: is_gone(pid))
    assert "event=stopped" in (tmp_path / "ingress.log").read_text()


def test_address_beyond_this_machine_is_said_to_be_open(tmp_path: Path) -> None:
    with IngressProcess(tmp_path, arguments=["--listen", "0.0.0.0:0"]) as process:
        assert process.stop() == 0
        assert "event=open_to_network" in process.log_text()


def test_run_keeps_its_name_over_restarts(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with IngressProcess(tmp_path) as ingress:
            client = LearnerClient(ingress.address)
            names.append(client.hello(identity()).run_id)
            client.close()
            assert ingress.stop() == 0
    assert names[0] == names[1]
    assert names[0]
