"""The client against a learner that is absent, silent, or answers strangely."""

from __future__ import annotations

import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest

from protos import codec, learner_pb2_grpc
from protos import learner_pb2 as pb
from protos.trial import TrialRejected
from services.backoff import Backoff
from services.client import (
    AccessDenied,
    ActorIdTaken,
    LearnerClient,
    LearnerRefused,
    LearnerUnavailable,
    WeightsGone,
)
from services.leases import LeaseLost
from services.records import LoopStatus
from services.spool import SpoolCounts
from tests.services.rig import SPEC, identity
from tests.wire_data import make_trial

COUNTS = SpoolCounts(num_open=0, num_ready=0, num_acked=0, num_rejected=0, ready_bytes=0)
TRIAL = codec.encode_trial(make_trial(SPEC, 1))
CHUNK = next(codec.cut_chunks(TRIAL.payload))


class ScriptedLearner(learner_pb2_grpc.LearnerServicer):
    """Answers what the test tells it to."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.replies: dict[str, object] = {}
        self.seen: list[str] = []
        for name in ("Hello", "Heartbeat", "QueryTrials", "PutChunk", "CommitTrial", "PutLog"):
            setattr(self, name, self._answer(name))
        for name in ("GetWeightsManifest", "GetWeightsChunk", "ListTrials", "Status"):
            setattr(self, name, self._answer(name))

    def _answer(self, name: str) -> Callable:
        def answer(request, context):
            self.seen.append(name)
            if self.code is not None:
                context.abort(self.code, "as told")
            return self.replies[name]

        return answer


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ScriptedLearner, str]]:
    learner = ScriptedLearner()
    running = grpc.server(futures.ThreadPoolExecutor(4))
    learner_pb2_grpc.add_LearnerServicer_to_server(learner, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield learner, f"127.0.0.1:{port}"
    running.stop(None).wait()


@pytest.fixture
def learner(server: tuple[ScriptedLearner, str]) -> ScriptedLearner:
    server[0].code, server[0].replies, server[0].seen = None, {}, []
    return server[0]


@pytest.fixture
def client(server: tuple[ScriptedLearner, str]) -> Iterator[LearnerClient]:
    made = LearnerClient(server[1])
    yield made
    made.close()


CALLS: dict[str, Callable[[LearnerClient], object]] = {
    "hello": lambda c: c.hello(identity()),
    "heartbeat": lambda c: c.heartbeat(1, LoopStatus(), COUNTS),
    "query_trials": lambda c: c.query_trials([]),
    "put_chunk": lambda c: c.put_chunk(1, "x", TRIAL, CHUNK),
    "commit_trial": lambda c: c.commit_trial(1, "x", TRIAL),
    "weights_manifest": lambda c: c.weights_manifest(0, 0.0),
    "weights_chunk": lambda c: c.weights_chunk(1, 0, 10),
    "put_log": lambda c: c.put_log(1, [], 0),
    "list_trials": lambda c: c.list_trials(),
    "status": lambda c: c.status(),
}
CODES = grpc.StatusCode
MEANING = {
    CODES.UNAVAILABLE: LearnerUnavailable,
    CODES.DEADLINE_EXCEEDED: LearnerUnavailable,
    CODES.RESOURCE_EXHAUSTED: LearnerUnavailable,
    CODES.INTERNAL: LearnerUnavailable,
    CODES.UNKNOWN: LearnerUnavailable,
    CODES.UNIMPLEMENTED: LearnerUnavailable,
    CODES.ABORTED: LearnerUnavailable,
    CODES.UNAUTHENTICATED: AccessDenied,
    CODES.FAILED_PRECONDITION: LeaseLost,
    CODES.NOT_FOUND: WeightsGone,
}


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("code", list(MEANING), ids=lambda code: code.name)
def test_every_status_of_every_call_is_one_of_our_errors(
    learner: ScriptedLearner, client: LearnerClient, name: str, code: grpc.StatusCode
) -> None:
    learner.code = code
    with pytest.raises(MEANING[code], match="as told"):
        CALLS[name](client)
    assert len(learner.seen) == 1, "the channel must not retry by itself"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("hello", LearnerRefused),
        ("put_chunk", TrialRejected),
        ("commit_trial", TrialRejected),
        ("status", LearnerUnavailable),
    ],
)
def test_request_the_learner_cannot_read_is_the_caller_s_affair(
    learner: ScriptedLearner, client: LearnerClient, name: str, error: type[Exception]
) -> None:
    learner.code = CODES.INVALID_ARGUMENT
    with pytest.raises(error, match="as told"):
        CALLS[name](client)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_nobody_there_is_unavailable_at_once(name: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    client = LearnerClient(address)
    began = time.monotonic()
    with pytest.raises(LearnerUnavailable, match=f"{address}: UNAVAILABLE"):
        CALLS[name](client)
    assert time.monotonic() - began < 10.0
    client.close()


def test_silent_peer_is_given_up_at_the_deadline() -> None:
    with socket.socket() as silent:  # accepts, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = LearnerClient(f"127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(LearnerUnavailable, match="DEADLINE_EXCEEDED"):
            client.heartbeat(1, LoopStatus(), COUNTS)
        assert time.monotonic() - began < 10.0
        client.close()


def test_closed_client_is_unavailable(server: tuple[ScriptedLearner, str]) -> None:
    client = LearnerClient(server[1])
    client.close()
    with pytest.raises(LearnerUnavailable):
        client.status()


def test_verdicts_of_hello(learner: ScriptedLearner, client: LearnerClient) -> None:
    for verdict, error in (
        (pb.HELLO_VERDICT_BUSY, ActorIdTaken),
        (pb.HELLO_VERDICT_UPGRADE, LearnerRefused),
        (17, LearnerRefused),
    ):
        learner.replies["Hello"] = pb.HelloReply(verdict=verdict, message="why")
        with pytest.raises(error, match="why"):
            client.hello(identity())


def test_a_name_that_is_taken_is_so_for_the_length_of_a_lease(
    learner: ScriptedLearner, client: LearnerClient
) -> None:
    learner.replies["Hello"] = pb.HelloReply(verdict=pb.HELLO_VERDICT_BUSY, lease_ttl_s=7.5)
    with pytest.raises(ActorIdTaken) as caught:
        client.hello(identity())
    assert caught.value.lease_ttl_s == 7.5


def test_lease_said_to_be_invalid_is_lost(learner: ScriptedLearner, client: LearnerClient) -> None:
    learner.replies["Heartbeat"] = pb.HeartbeatReply(is_lease_valid=False, message="taken")
    with pytest.raises(LeaseLost, match="taken"):
        client.heartbeat(1, LoopStatus(), COUNTS)


def test_answer_for_other_trials_is_not_believed(
    learner: ScriptedLearner, client: LearnerClient
) -> None:
    learner.replies["QueryTrials"] = pb.QueryTrialsReply(holdings=[pb.TrialHolding(trial_id="b")])
    with pytest.raises(LearnerUnavailable, match="other trials"):
        client.query_trials(["a"])


@pytest.mark.parametrize(
    "reply",
    [
        pb.GetWeightsChunkReply(data=b"abc", crc32=zlib.crc32(b"abd")),
        pb.GetWeightsChunkReply(data=b"", crc32=0),
        pb.GetWeightsChunkReply(data=b"a" * 11, crc32=zlib.crc32(b"a" * 11)),
    ],
)
def test_piece_of_weights_that_is_damaged_is_not_believed(
    learner: ScriptedLearner, client: LearnerClient, reply: pb.GetWeightsChunkReply
) -> None:
    learner.replies["GetWeightsChunk"] = reply
    with pytest.raises(LearnerUnavailable, match="damaged"):
        client.weights_chunk(1, 0, 10)


def test_backoff_grows_to_its_end_and_begins_again() -> None:
    backoff = Backoff(low_s=0.1, high_s=2.0, rng=random.Random(0))
    waits = [backoff.failed() for _ in range(200)]
    for n, wait_s in enumerate(waits):
        longest = min(2.0, 0.1 * 2.0 ** min(n, 64))
        assert longest / 2 <= wait_s <= longest
    backoff.worked()
    assert backoff.failed() <= 0.1


def test_actors_do_not_come_back_at_the_same_moment() -> None:
    firsts = {Backoff(rng=random.Random(seed)).failed() for seed in range(20)}
    assert len(firsts) == 20


def test_following_tail_goes_on_at_its_cursor(server: tuple[ScriptedLearner, str]) -> None:
    asked: list[pb.LogCursor] = []

    class Flaky(learner_pb2_grpc.LearnerServicer):
        def TailLog(self, request, context):
            asked.append(request.after)
            yield pb.TailLogReply(
                cursor=pb.LogCursor(ledger_seq=request.after.ledger_seq + 1),
                trial=pb.CommittedTrial(ledger_seq=request.after.ledger_seq + 1),
            )
            context.abort(CODES.UNAVAILABLE, "cut")

    running = grpc.server(futures.ThreadPoolExecutor(4))
    learner_pb2_grpc.add_LearnerServicer_to_server(Flaky(), running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    client = LearnerClient(f"127.0.0.1:{port}")
    stop = threading.Event()
    tail = client.tail_log(is_following=True, stop=stop)
    assert [next(tail).trial.ledger_seq for _ in range(3)] == [1, 2, 3]
    assert [cursor.ledger_seq for cursor in asked] == [0, 1, 2]
    stop.set()
    assert list(tail) == []
    with pytest.raises(LearnerUnavailable, match="cut"):
        list(client.tail_log(is_following=False))
    client.close()
    running.stop(None).wait()
