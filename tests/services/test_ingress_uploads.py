"""A trial is stored once and as it was sent, or refused with a reason and kept apart."""

from __future__ import annotations

import json
import random

import grpc
import numpy as np
import pytest

from learner.store import TrialStore
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import Trial, TrialRejected
from services.client import LearnerClient, LearnerUnavailable
from tests.services import ingress_bench
from tests.services.rig import SPEC, IngressProcess, deliver, raw_stub
from tests.wire_data import make_spec, make_trial

ingress = ingress_bench.ingress
client = ingress_bench.client
lease = ingress_bench.lease
trial = ingress_bench.trial


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
