"""What refused uploads may leave behind is bounded, whatever they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store import TrialStore
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import Trial
from services.delivery import Delivery, DeliveryConfig
from tests.services.rig import SPEC
from tests.wire_data import make_trial


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrialStore]:
    opened = TrialStore.open(tmp_path / "store")
    yield opened
    opened.close()


def make_delivery(store: TrialStore, **limits: int) -> Delivery:
    return Delivery(DeliveryConfig(**{"reserve_bytes": 0} | limits), store, SPEC)


def deliver(
    delivery: Delivery,
    trial: Trial,
    *,
    manifest: pb.TrialManifest | None = None,
    trial_digest: str | None = None,
) -> pb.CommitTrialReply:
    encoded = codec.encode_trial(trial)
    for chunk in codec.cut_chunks(encoded.payload):
        delivery.put_chunk(
            pb.PutChunkRequest(
                trial_id=trial.trial_id,
                payload_sha256=encoded.payload_sha256,
                total_bytes=len(encoded.payload),
                index=chunk.index,
                count=chunk.count,
                offset=chunk.offset,
                crc32=chunk.crc32,
                data=chunk.data,
            )
        )
    return delivery.commit(
        pb.CommitTrialRequest(
            trial_id=trial.trial_id,
            manifest=manifest or encoded.manifest,
            payload_sha256=encoded.payload_sha256,
            trial_digest=trial_digest or encoded.trial_digest,
        )
    )


def test_a_reason_that_quotes_what_was_sent_is_cut(store: TrialStore) -> None:
    trial = make_trial(SPEC, 1)
    manifest = codec.encode_trial(trial).manifest
    manifest.columns[0].name = "observation/" + "x" * 1_000_000
    reply = deliver(make_delivery(store), trial, manifest=manifest)
    assert reply.verdict == pb.COMMIT_VERDICT_REJECTED
    assert "xxx" in reply.reason
    assert len(reply.reason) <= 2000
    (row,) = store.ledger.quarantined()
    assert row.reason == reply.reason


def test_refusals_of_one_trial_are_counted_like_those_of_many(store: TrialStore) -> None:
    delivery = make_delivery(store, max_quarantined=3)
    for number in range(6):
        trial = make_trial(SPEC, number, trial_id=make_trial(SPEC, 0).trial_id)
        reply = deliver(delivery, trial, trial_digest=f"{number:064x}")
        assert reply.verdict == pb.COMMIT_VERDICT_REJECTED
    assert [row.digest for row in store.ledger.quarantined()] == [f"{n:064x}" for n in range(3)]
    assert len(list((store.root / "quarantine").iterdir())) == 3
    assert deliver(make_delivery(store, max_quarantined=3), make_trial(SPEC, 0)).ledger_seq == 1


def test_room_for_refused_trials_is_counted_over_a_restart(store: TrialStore) -> None:
    def kept_after(number: int, max_bytes: int) -> int:
        delivery = make_delivery(store, max_quarantine_bytes=max_bytes)
        deliver(delivery, make_trial(SPEC, number), trial_digest=f"{number:064x}")
        return len(list((store.root / "quarantine").iterdir()))

    assert kept_after(1, 1 << 30) == 1
    (kept,) = (store.root / "quarantine").iterdir()
    size = sum(path.stat().st_size for path in kept.iterdir())
    assert kept_after(2, size) == 1
    assert kept_after(3, 3 * size) == 2


def test_another_trial_under_a_committed_id_keeps_to_the_limits_too(store: TrialStore) -> None:
    delivery = make_delivery(store, max_quarantine_bytes=0)
    first = make_trial(SPEC, 1)
    deliver(delivery, first)
    reply = deliver(delivery, make_trial(SPEC, 2, trial_id=first.trial_id))
    assert reply.verdict == pb.COMMIT_VERDICT_REJECTED
    assert "was committed with digest" in reply.reason
    assert list((store.root / "quarantine").iterdir()) == []
    assert len(store.ledger.quarantined()) == 1
    assert store.load(first.trial_id).digest() == first.digest()
