"""Whatever is sent to the ingress, it answers, forgets it, and goes on serving."""

from __future__ import annotations

import collections
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import DecodeError, Message

from protos import learner_pb2 as pb
from services.client import LearnerClient
from services.ingress import SERVICE
from tests.protos.golden_messages import build
from tests.services.rig import SPEC, IngressProcess, deliver, identity, resident_bytes
from tests.wire_data import make_trial

CODES = grpc.StatusCode
BORING = {
    CODES.OK,
    CODES.INVALID_ARGUMENT,
    CODES.RESOURCE_EXHAUSTED,
    CODES.FAILED_PRECONDITION,  # a lease that is none
    CODES.NOT_FOUND,  # a version that is none
    CODES.ABORTED,  # a chunk that was damaged
}
IN_FLIGHT = 30  # half of the streams a connection may have: one more may count for a while
GROWTH_BYTES = 10 << 20
GOLDEN = {type(message).DESCRIPTOR.name: message for message in build().values()}


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngressProcess]:
    with IngressProcess(tmp_path_factory.mktemp("malformed")) as process:
        yield process


def _random(rng: random.Random, _valid: bytes) -> bytes:
    return rng.randbytes(rng.randrange(300))


def _mutated(rng: random.Random, valid: bytes) -> bytes:
    data = bytearray(valid or b"\x00")
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _truncated(rng: random.Random, valid: bytes) -> bytes:
    return valid[: rng.randrange(len(valid) + 1)]


def _nested(rng: random.Random, _valid: bytes) -> bytes:
    inner = b""
    for _ in range(rng.randrange(50, 120)):
        inner = bytes([rng.randrange(1, 8) << 3 | 2]) + _varint(len(inner)) + inner
    return inner


def _huge_length(rng: random.Random, valid: bytes) -> bytes:
    return valid + bytes([rng.randrange(1, 16) << 3 | 2]) + _varint(1 << rng.randrange(20, 63))


def _bad_text(rng: random.Random, _valid: bytes) -> bytes:
    text = rng.choice([b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"../../x\x00", b"\x1b[2J"])
    return bytes([rng.randrange(1, 10) << 3 | 2]) + _varint(len(text)) + text


def _wrong_types(rng: random.Random, _valid: bytes) -> bytes:
    parts = [
        bytes([rng.randrange(1, 14) << 3 | rng.choice([0, 1, 5])]) + rng.randbytes(8)
        for _ in range(rng.randrange(1, 6))
    ]
    return b"".join(parts)


def _repeated(rng: random.Random, valid: bytes) -> bytes:
    return valid * rng.randrange(2, 20)


KINDS: list[Callable[[random.Random, bytes], bytes]] = [
    _random,
    _mutated,
    _truncated,
    _nested,
    _huge_length,
    _bad_text,
    _wrong_types,
    _repeated,
]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _valid(method_input: str, lease_token: int) -> bytes:
    """A request that is well formed, with a lease in force where there is one."""
    message: Message = type(GOLDEN[method_input])()
    message.CopyFrom(GOLDEN[method_input])
    if "lease_token" in message.DESCRIPTOR.fields_by_name:
        message.lease_token = lease_token  # type: ignore[attr-defined]
    if isinstance(message, pb.GetWeightsManifestRequest):
        message.wait_s = 0.0
    if isinstance(message, pb.TailLogRequest):
        message.is_following = False
    return message.SerializeToString()


def _waits(kind: type[Message], request: bytes) -> bool:
    """Whether this is, by chance, a proper request to be told later."""
    try:
        message = kind.FromString(request)
    except DecodeError:
        return False
    return bool(getattr(message, "is_following", False) or getattr(message, "wait_s", 0.0) > 0)


def malformed(method: str, lease_token: int, rng: random.Random, num: int) -> list[bytes]:
    """Returns requests of every kind to one method."""
    name = SERVICE.methods_by_name[method].input_type.name
    valid, requests = _valid(name, lease_token), []
    while len(requests) < num:
        request = rng.choice(KINDS)(rng, valid)
        if not _waits(type(GOLDEN[name]), request):
            requests.append(request)
    return requests


def bombard(address: str, method: str, requests: Iterator[bytes]) -> dict[grpc.StatusCode, int]:
    """Sends each request, many at once; counts the answers by status."""
    answers: dict[grpc.StatusCode, int] = {}
    with grpc.insecure_channel(address) as channel:
        is_stream = SERVICE.methods_by_name[method].server_streaming
        make = channel.unary_stream if is_stream else channel.unary_unary
        call = make(f"/{SERVICE.full_name}/{method}")
        pending = []
        for request in requests:
            answer = call(request, timeout=30) if is_stream else call.future(request, timeout=30)
            pending.append(answer)
            if len(pending) >= IN_FLIGHT:
                _collect(pending, answers, is_stream=is_stream)
        _collect(pending, answers, is_stream=is_stream)
    return answers


def _collect(pending: list, answers: dict[grpc.StatusCode, int], *, is_stream: bool) -> None:
    for answer in pending:
        try:
            if is_stream:
                collections.deque(answer, maxlen=0)
            code = answer.code()  # waits for the end
            assert code in BORING, answer.details()
        except grpc.RpcError as error:
            code = error.code()
        answers[code] = answers.get(code, 0) + 1
    pending.clear()


def _attack(ingress: IngressProcess, method: str, num_messages: int, seed: int) -> None:
    client = LearnerClient(ingress.address)
    lease = client.hello(identity()).lease_token
    requests = malformed(method, lease, random.Random(seed), min(num_messages, 2_000))
    bombard(ingress.address, method, iter(requests[:500]))  # pools fill up once
    before = resident_bytes(ingress.pid)
    stream = (requests[i % len(requests)] for i in range(num_messages))
    answers = bombard(ingress.address, method, stream)
    growth = resident_bytes(ingress.pid) - before
    assert set(answers) <= BORING, answers
    assert answers.get(CODES.INVALID_ARGUMENT, 0) > num_messages / 10
    assert sum(answers.values()) == num_messages
    assert growth < GROWTH_BYTES, f"{method}: {growth / 1e6:.1f} MB"
    assert ingress.process.poll() is None
    trial = make_trial(SPEC, seed)
    reply = deliver(client, client.hello(identity()).lease_token, trial)
    assert reply.verdict == pb.COMMIT_VERDICT_STORED
    client.close()


METHODS = sorted(SERVICE.methods_by_name)
NUM_MESSAGES = 2_000  # a leak of 5 kB each would show


@pytest.mark.parametrize("method", [method for method in METHODS if method != "TailLog"])
def test_malformed_messages_are_boring(ingress: IngressProcess, method: str) -> None:
    _attack(ingress, method, NUM_MESSAGES, seed=METHODS.index(method))


def test_malformed_requests_for_the_log_are_boring(tmp_path: Path) -> None:
    """With an ingress and a short log of its own: each good one is told all that is in the log."""
    with IngressProcess(tmp_path) as ingress, closing(LearnerClient(ingress.address)) as client:
        lease = client.hello(identity()).lease_token
        for seed in range(3):
            deliver(client, lease, make_trial(SPEC, 60_000 + seed))
        client.put_log(lease, [pb.LiveEvent(kind=pb.LIVE_KIND_NOTE, text="x")] * 16, 0)
        _attack(ingress, "TailLog", NUM_MESSAGES, seed=METHODS.index("TailLog"))


@pytest.mark.slow
@pytest.mark.parametrize("num_messages", [10_000, 100_000])
@pytest.mark.parametrize("method", METHODS)
def test_very_many_malformed_messages_are_boring(
    tmp_path: Path, method: str, num_messages: int
) -> None:
    with IngressProcess(tmp_path) as ingress:
        _attack(ingress, method, num_messages, seed=METHODS.index(method))


def test_unknown_method_is_unimplemented(ingress: IngressProcess) -> None:
    with grpc.insecure_channel(ingress.address) as channel:
        call = channel.unary_unary(f"/{SERVICE.full_name}/Surprise")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert caught.value.code() is CODES.UNIMPLEMENTED


def test_compressed_bomb_is_bounded(ingress: IngressProcess) -> None:
    before = resident_bytes(ingress.pid)
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(ingress.address, options=options) as channel:
        call = channel.unary_unary(f"/{SERVICE.full_name}/PutChunk")
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                call(bytes(64 << 20), timeout=30, compression=grpc.Compression.Gzip)
            assert caught.value.code() is CODES.RESOURCE_EXHAUSTED
    assert resident_bytes(ingress.pid) - before < 50 << 20


def test_readers_that_never_read_cost_nothing_that_grows(tmp_path: Path) -> None:
    with IngressProcess(tmp_path) as ingress:
        _leave_readers_waiting(ingress)


def _leave_readers_waiting(ingress: IngressProcess) -> None:
    client = LearnerClient(ingress.address)
    lease = client.hello(identity()).lease_token
    for seed in range(20):
        deliver(client, lease, make_trial(SPEC, 40_000 + seed))
    request = pb.TailLogRequest(is_following=True, with_live_events=True).SerializeToString()
    channels = [
        grpc.insecure_channel(ingress.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(25)
    ]
    tails = [c.unary_stream(f"/{SERVICE.full_name}/TailLog")(request) for c in channels]
    for tail in tails:
        next(tail)  # it is there; from now on it does not read
    before = resident_bytes(ingress.pid)
    event = pb.LiveEvent(kind=pb.LIVE_KIND_NOTE, text="x" * 900)
    for _ in range(200):
        client.put_log(lease, [event] * 256, 0)
    assert resident_bytes(ingress.pid) - before < 50 << 20
    began = time.monotonic()
    deliver(client, lease, make_trial(SPEC, 50_000))
    assert time.monotonic() - began < 15.0
    for tail, channel in zip(tails, channels, strict=True):
        tail.cancel()
        channel.close()
    client.close()
