"""An ingress for all tests of a file, a caller with a lease, and a trial that nobody has sent."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from learner.weights import WeightStore
from protos.trial import Trial
from services.client import LearnerClient
from services.spool import SpoolCounts
from tests.services.rig import SPEC, IngressProcess, identity
from tests.wire_data import make_trial

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
