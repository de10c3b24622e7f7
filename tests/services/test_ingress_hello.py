"""A hello is answered with a lease or a reason, and an actor has one live process."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from protos import codec
from protos import learner_pb2 as pb
from protos.trial import SpecMismatch, Trial
from services.client import ActorIdentity, ActorIdTaken, LearnerClient, LearnerRefused
from services.leases import LeaseLost
from services.records import LoopStatus
from tests.services import ingress_bench
from tests.services.ingress_bench import COUNTS
from tests.services.rig import SPEC, IngressProcess, identity, raw_stub, wait_until
from tests.wire_data import make_spec

ingress, client, trial = ingress_bench.ingress, ingress_bench.client, ingress_bench.trial


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

        wait_until(takes_over)
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
