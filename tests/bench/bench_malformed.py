"""What the ingress keeps of messages that make no sense: its memory before and after very many.

All methods in turn, and of every kind: random bytes, valid ones with some changed or cut off or
repeated, deep nesting, lengths beyond the end, text that is none, unknown fields, messages above
the limit, chunks whose checksum is wrong, whole trials under a wrong digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc

from protos import codec
from protos import learner_pb2 as pb
from protos.trial import TrialRejected
from services.client import LearnerClient
from services.server import MAX_MESSAGE_BYTES
from tests.bench.row import Row
from tests.services.rig import SPEC, IngressProcess, deliver, identity, resident_bytes
from tests.services.test_malformed import BORING, METHODS, bombard, malformed
from tests.wire_data import make_trial

BLOCK = 500
"""Messages to one method before the next one's turn."""
NUM_OVERSIZED, NUM_DAMAGED, NUM_TORN, NUM_MISNAMED = 1, 14, 4, 1
"""Of a block: messages above the limit, chunks with a wrong checksum, and commits of uploads that
have another digest than their chunks, or than their trial. The last are remembered on purpose."""
TURNS = (*METHODS, *4 * [method for method in METHODS if method != "TailLog"])
"""Methods in turn. To tail the log is, by chance, often proper, and answered at length."""
NUM_WARM_UP = BLOCK * len(METHODS)
"""Messages until the pools of allocator and gRPC are full."""


def measure(*, messages: int) -> list[Row]:
    """Sends so many messages, rounded up to whole blocks, after those that warm up.

    Raises:
        AssertionError: An answer was another than a refusal, or the ingress does not work any more.
    """
    with tempfile.TemporaryDirectory() as folder, IngressProcess(Path(folder)) as ingress:
        sizes = [resident_bytes(ingress.pid)]
        num_warm_up = _send(ingress.address, NUM_WARM_UP, first_block=0)
        sizes.append(resident_bytes(ingress.pid))
        began_s = time.monotonic()
        num_sent = _send(ingress.address, messages, first_block=num_warm_up // BLOCK)
        took_s = time.monotonic() - began_s
        sizes.append(resident_bytes(ingress.pid))
        with contextlib.closing(LearnerClient(ingress.address)) as client:
            token = client.hello(identity("bench")).lease_token
            reply = deliver(client, token, make_trial(SPEC, 10**9))
        assert reply.verdict == pb.COMMIT_VERDICT_STORED, reply
    return [
        Row(
            figure=f"ingress, memory growth over {num_sent} malformed messages",
            value=(sizes[2] - sizes[1]) / 1e6,
            unit="MB",
            target="< 10",
        ),
        Row(
            figure=f"ingress, memory growth over the {num_warm_up} before them",
            value=(sizes[1] - sizes[0]) / 1e6,
            unit="MB",
        ),
        Row(figure="ingress, malformed messages refused", value=num_sent / took_s, unit="1/s"),
    ]


def _send(address: str, num_messages: int, *, first_block: int) -> int:
    """Sends whole blocks; returns how many messages that were, each of them refused."""
    num_blocks = -(-num_messages // BLOCK)
    answers: Counter[grpc.StatusCode] = Counter()
    with contextlib.closing(LearnerClient(address)) as client:
        for block in range(first_block, first_block + num_blocks):
            answers += _send_block(client, block)
    assert set(answers) <= BORING, answers
    assert answers[grpc.StatusCode.INVALID_ARGUMENT] > answers.total() / 10, answers
    assert answers.total() == num_blocks * BLOCK, answers
    return answers.total()


def _send_block(client: LearnerClient, block: int) -> Counter[grpc.StatusCode]:
    address, method, dice = client.address, TURNS[block % len(TURNS)], random.Random(block)
    # A lease each time: some messages, by chance, are a proper goodbye.
    token = client.hello(identity("bench")).lease_token
    num = BLOCK - NUM_OVERSIZED - NUM_DAMAGED - NUM_TORN - NUM_MISNAMED
    answers = Counter(bombard(address, method, iter(malformed(method, token, dice, num))))
    trial = make_trial(SPEC, block)
    encoded, other = codec.encode_trial(trial), f"{block:064x}"
    token = client.hello(identity("bench")).lease_token
    oversized = [bytes(MAX_MESSAGE_BYTES + 1)] * NUM_OVERSIZED
    damaged = [_damaged_chunk(token, trial.trial_id, encoded)] * NUM_DAMAGED
    answers += Counter(bombard(address, "PutChunk", iter([*oversized, *damaged])))
    torn = dataclasses.replace(encoded, payload_sha256=other)
    for _ in range(NUM_TORN):
        reply = _deliver(client, token, trial.trial_id, torn)
        assert reply.verdict == pb.COMMIT_VERDICT_INCOMPLETE, reply
    for _ in range(NUM_MISNAMED):
        with contextlib.suppress(TrialRejected):
            _deliver(
                client, token, trial.trial_id, dataclasses.replace(encoded, trial_digest=other)
            )
            raise AssertionError(f"trial {trial.trial_id} was taken under a wrong digest")
    answers[grpc.StatusCode.OK] += NUM_TORN + NUM_MISNAMED  # whose verdict is a refusal
    return answers


def _damaged_chunk(lease_token: int, trial_id: str, encoded: codec.EncodedTrial) -> bytes:
    (chunk,) = codec.cut_chunks(encoded.payload)
    return pb.PutChunkRequest(
        lease_token=lease_token,
        trial_id=trial_id,
        payload_sha256=encoded.payload_sha256,
        total_bytes=len(encoded.payload),
        index=chunk.index,
        count=chunk.count,
        offset=chunk.offset,
        crc32=chunk.crc32 ^ 1,
        data=chunk.data,
    ).SerializeToString()


def _deliver(
    client: LearnerClient, lease_token: int, trial_id: str, encoded: codec.EncodedTrial
) -> pb.CommitTrialReply:
    for chunk in codec.cut_chunks(encoded.payload):
        client.put_chunk(lease_token, trial_id, encoded, chunk)
    return client.commit_trial(lease_token, trial_id, encoded)
