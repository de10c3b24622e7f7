"""A trial comes out of the ring as it went in, and only what fits goes in."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protos.trial import Outcome, TrialRejected, new_trial_id
from services.records import StepRecord, TrialBegin, TrialEnd
from services.ring import RingFull, RingReader, RingWriter
from services.ring_memory import Ring, RingUnusable
from tests.services import ring_bench
from tests.services.assembler import TrialAssembler
from tests.services.ring_bench import SPEC
from tests.services.ring_bench import everything as _everything
from tests.services.ring_bench import new_path as _path
from tests.services.ring_processes import (
    check_counting,
    columns,
    make_provenance,
    observation,
    write_trial,
)

ring = ring_bench.ring


def test_a_trial_comes_out_as_it_went_in(ring: Ring) -> None:
    trial_id = write_trial(RingWriter(ring), SPEC, 7)
    assembler = TrialAssembler()
    trials = [assembler.add(r) for r in _everything(RingReader(ring))]
    assert trials[:-1] == [None] * 5
    trial = trials[-1]
    assert trial is not None
    assert (trial.trial_id, trial.outcome, trial.num_steps) == (trial_id, Outcome.FAILURE, 4)
    assert trial.provenance == make_provenance(7)
    check_counting(trial)


def test_no_poll_reaches_past_an_end_and_what_was_not_committed_comes_again(ring: Ring) -> None:
    writer = RingWriter(ring)
    first, second = write_trial(writer, SPEC, 0), write_trial(writer, SPEC, 50)
    reader = RingReader(ring)
    batch = reader.poll(0)
    assert isinstance(batch[-1], TrialEnd)
    assert [type(r) for r in batch].count(TrialEnd) == 1
    assert reader.poll(0)
    reader.commit()
    assert ring.is_drained
    write_trial(writer, SPEC, 90)
    reader = RingReader(ring)
    assert reader.poll(0)
    again = RingReader(ring).poll(0)
    assert isinstance(again[0], TrialBegin)
    assert again[0].trial_id not in (first, second)


def test_a_commit_never_covers_half_a_trial(ring: Ring) -> None:
    writer = RingWriter(ring)
    write_trial(writer, SPEC, 0)
    writer.begin(new_trial_id(), make_provenance(), observation(0))
    writer.step(columns(SPEC, 0), observation(1))
    reader = RingReader(ring)
    assert len(_everything(reader)) == 8
    reader.commit()
    assert [type(r) for r in RingReader(ring).poll(0)] == [TrialBegin, StepRecord]


def test_room_is_asked_for_at_the_beginning_and_never_later(ring: Ring) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    write_trial(writer, SPEC, 0)
    write_trial(writer, SPEC, 10)  # takes the 14 slots but two
    head = ring.control.head
    assert not writer.has_room
    with pytest.raises(RingFull):
        writer.begin(new_trial_id(), make_provenance(), observation(0))
    assert ring.control.head == head
    reader.poll(0)
    reader.commit()
    write_trial(writer, SPEC, 20)


def test_an_open_trial_is_ended_for_a_dead_producer(ring: Ring) -> None:
    writer = RingWriter(ring)
    writer.begin(new_trial_id(), make_provenance(3), observation(3))
    writer.step(columns(SPEC, 3), observation(4))
    assert ring.has_open_trial
    assert RingWriter(Ring(ring.path)).abort_open_trial("died")
    assert not RingWriter(ring).abort_open_trial("died")
    assembler = TrialAssembler()
    trial = [assembler.add(r) for r in _everything(RingReader(ring))][-1]
    assert trial is not None
    assert (trial.outcome, trial.abort_reason) == (Outcome.ABORTED, "died")
    assert trial.num_steps == 1
    check_counting(trial)
    assert (ring.num_begun, ring.num_complete) == (1, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c | {"reward": np.zeros((), np.float64)},
        lambda c: c | {"action": np.zeros(3, np.float32)},
        lambda c: c | {"extra": np.zeros(())},
        lambda c: {k: v for k, v in c.items() if k != "reward"},
    ],
)
def test_what_does_not_fit_the_spec_is_refused_whole(
    ring: Ring, spoil: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> None:
    writer = RingWriter(ring)
    writer.begin(new_trial_id(), make_provenance(), observation(0))
    head = ring.control.head
    with pytest.raises(TrialRejected):
        writer.step(spoil(columns(SPEC, 0)), observation(1))
    assert ring.control.head == head


def test_memory_that_is_not_there_is_refused_before_anything_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_file: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = _path()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RingUnusable, match="is .* full"):
        Ring.create(path, SPEC, num_trials=2)
    assert not list(path.parent.glob(f"{path.name}*"))


def test_only_rings_are_mapped(ring: Ring, tmp_path: Path) -> None:
    with pytest.raises(RingUnusable, match="exists"):
        Ring.create(ring.path, SPEC, num_trials=2)
    with pytest.raises(RingUnusable, match="cannot map"):
        Ring(tmp_path / "absent")
    other = tmp_path / "other"
    other.write_bytes(bytes(10_000))
    with pytest.raises(RingUnusable, match="not a ring"):
        Ring(other)
    other.write_bytes(ring.path.read_bytes()[:-1])
    with pytest.raises(RingUnusable, match="expected"):
        Ring(other)
