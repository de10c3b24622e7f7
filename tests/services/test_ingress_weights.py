"""New weights are told at once to whoever waits, and come in pieces."""

from __future__ import annotations

import threading
import time

import pytest

from protos import learner_pb2 as pb
from services.client import LearnerClient, LearnerUnavailable, WeightsGone
from tests.services import ingress_bench
from tests.services.ingress_bench import publish
from tests.services.rig import IngressProcess, raw_stub, wait_until

ingress, client = ingress_bench.ingress, ingress_bench.client


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
