"""What both sides tell each other beside the trials arrives, within the words it has."""

from __future__ import annotations

import pytest

from services.records import MAX_WEIGHTS_VERSION, NO_WEIGHTS, WEIGHTS_TAG_BITS, WeightsMark
from services.ring import RingReader, RingWriter
from services.ring_control import LinkState
from services.ring_memory import Ring
from tests.services import ring_bench
from tests.services.ring_bench import SPEC
from tests.services.ring_processes import write_trial

ring = ring_bench.ring


def test_control_words_reach_the_other_side(ring: Ring) -> None:
    reader, control = RingReader(ring), Ring(ring.path).control
    assert reader.status().state == "starting"
    control.fault = "action_size: expected 4 – got 3"
    control.used_weights = WeightsMark(12, 5)
    assert (reader.status().fault, reader.status().weights_version) == (control.fault, 12)
    assert (control.used_weights, control.weights_in_use) == (WeightsMark(12, 5), 12)
    largest = WeightsMark(MAX_WEIGHTS_VERSION, (1 << WEIGHTS_TAG_BITS) - 1)
    assert control.announced_weights == NO_WEIGHTS
    reader.announce_weights(largest)
    reader.announce_unsent(3)
    reader.announce_room(has_room=False)
    reader.announce_link(is_up=True)
    since = control.link_since_ns
    reader.announce_link(is_up=True)
    assert (control.announced_weights, control.unsent_trials) == (largest, 3)
    assert control.weights_announced == largest.version
    assert control.is_spool_full
    assert (control.link_state, control.link_since_ns) == (LinkState.UP, since)
    reader.announce_link(is_up=False)
    assert control.link_since_ns > since


def test_an_acknowledgement_counts_for_the_newest_trial_only(ring: Ring) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    first = write_trial(writer, SPEC, 0)
    second = write_trial(writer, SPEC, 0)
    reader.announce_acked(trial_id=first, ledger_seq=8)
    assert ring.control.acked == (0, 0)
    reader.announce_acked(trial_id=second, ledger_seq=9)
    assert ring.control.acked == (2, 9)


def test_numbers_that_no_honest_learner_sends_stay_within_their_words(ring: Ring) -> None:
    writer, reader, control = RingWriter(ring), RingReader(ring), ring.control
    trial_id = write_trial(writer, SPEC, 0)
    reader.announce_trained(version=7, ledger_seq=9)
    assert control.trained == (7, 9)
    for seq, kept in ((-1, 0), (1 << 62, (1 << 40) - 1)):
        reader.announce_acked(trial_id=trial_id, ledger_seq=seq)
        assert control.acked == (1, kept)
        reader.announce_trained(version=seq, ledger_seq=seq)
        assert control.trained == (0 if seq < 0 else MAX_WEIGHTS_VERSION, kept)


def test_a_mark_tells_weights_apart_by_number_and_by_manifest() -> None:
    one = WeightsMark.of(3, "a")
    assert one == WeightsMark.of(3, "a")
    assert len({one, WeightsMark.of(3, "b"), WeightsMark.of(2, "a"), NO_WEIGHTS}) == 4
    for version in (0, -1, MAX_WEIGHTS_VERSION + 1):
        with pytest.raises(ValueError, match="weights version"):
            WeightsMark.of(version, "a")
