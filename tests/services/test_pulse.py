"""What the learner may say of how far its weights have been trained."""

from __future__ import annotations

import pytest

from learner.weights import WeightsManifest
from protos import learner_pb2 as pb
from services.pulse import Beat, trained_through

WEIGHTS = WeightsManifest(
    version=3,
    train_step=50,
    sha256="0" * 64,
    num_bytes=1,
    tensors=(),
    spec_digest="",
    policy_config="{}",
    ledger_seq=7,
    num_online_trials=2,
    created_unix_ns=0,
    learner_id="t",
)


def make_trainer(
    *, updates_owed: int = 0, weights_version: int = 3, num_updates: int = 50, ledger_seq: int = 9
) -> pb.TrainerStatus:
    """One that is done with row 9, and has nothing more to publish."""
    return pb.TrainerStatus(
        updates_owed=updates_owed,
        weights_version=weights_version,
        num_updates=num_updates,
        ledger_seq=ledger_seq,
    )


def test_a_row_that_brings_no_weights_is_done_with_once_the_trainer_has_passed_it() -> None:
    assert trained_through(Beat(ledger_seq=9, weights=WEIGHTS, trainer=make_trainer())) == 9


@pytest.mark.parametrize(
    "trainer",
    [
        make_trainer(updates_owed=1),
        make_trainer(weights_version=2),
        make_trainer(num_updates=51),
        make_trainer(num_updates=49),
        make_trainer(ledger_seq=5),
    ],
    ids=["owes", "older version", "ahead", "behind", "older row"],
)
def test_a_trainer_that_may_still_publish_is_not_done(trainer: pb.TrainerStatus) -> None:
    assert trained_through(Beat(ledger_seq=9, weights=WEIGHTS, trainer=trainer)) == 7


def test_without_a_trainer_the_weights_speak_for_themselves() -> None:
    assert trained_through(Beat(ledger_seq=9, weights=WEIGHTS)) == 7


def test_without_weights_nothing_is_trained() -> None:
    trainer = make_trainer(weights_version=0, num_updates=0)
    assert trained_through(Beat(ledger_seq=9, trainer=trainer)) == 0
