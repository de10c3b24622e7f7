"""A damaged record costs its own trial, and neither another one nor the tail."""

from __future__ import annotations

import pytest

from protos.trial import Outcome, Trial, new_trial_id
from services import ring as ring_module
from services.records import TrialBegin, TrialEnd
from services.ring import DAMAGED, RingReader, RingWriter
from services.ring_memory import Ring
from tests.services import ring_bench
from tests.services.assembler import TrialAssembler
from tests.services.ring_bench import SPEC
from tests.services.ring_bench import everything as _everything
from tests.services.ring_processes import columns, make_provenance, observation, write_trial

ring = ring_bench.ring


def test_a_damaged_record_costs_its_trial_and_no_other(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "_SETTLE_S", 0.02)
    writer = RingWriter(ring)
    broken, whole = write_trial(writer, SPEC, 0), write_trial(writer, SPEC, 10)
    ring.row(2)[ring.text_offset // 2] ^= 1
    assembler = TrialAssembler()
    records = _everything(RingReader(ring))
    trials = {t.trial_id: t for r in records if (t := assembler.add(r)) is not None}
    assert trials[broken].outcome is Outcome.ABORTED
    assert trials[broken].num_steps == 1
    assert trials[broken].abort_reason == DAMAGED
    assert trials[whole].outcome is Outcome.FAILURE


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "_SETTLE_S", 0.02)


def damage(ring: Ring, position: int) -> None:
    ring.row(position)[ring.text_offset // 2] ^= 1


def recorded(reader: RingReader) -> list[Trial]:
    """Reads everything the way the recorder does, until the ring has no more."""
    assembler, trials = TrialAssembler(), []
    while records := reader.poll(0):
        trials += [t for r in records if (t := assembler.add(r)) is not None]
        reader.commit()
    return trials


@pytest.mark.usefixtures("impatient")
def test_a_damaged_end_ends_its_trial_and_the_tail_goes_on(
    ring: Ring, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    broken = write_trial(writer, SPEC, 0)
    damage(ring, ring.control.head - 1)
    (trial,) = recorded(reader)
    assert (trial.trial_id, trial.outcome, trial.num_steps) == (broken, Outcome.ABORTED, 4)
    assert trial.abort_reason == DAMAGED
    assert ring.is_drained
    assert f"event=record_damaged record=5 trial={broken}" in caplog.text
    whole = write_trial(writer, SPEC, 10)
    (trial,) = recorded(reader)
    assert (trial.trial_id, trial.outcome) == (whole, Outcome.FAILURE)
    assert ring.is_drained


@pytest.mark.usefixtures("impatient")
def test_a_damaged_beginning_costs_its_trial_and_the_tail_goes_on(
    ring: Ring, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    write_trial(writer, SPEC, 0)
    damage(ring, 0)
    damage(ring, ring.control.head - 1)
    assert recorded(reader) == []
    assert ring.is_drained
    assert "event=record_damaged record=0 trial=unknown" in caplog.text
    write_trial(writer, SPEC, 10)
    damage(ring, 6)
    whole = write_trial(writer, SPEC, 20)
    assert [t.trial_id for t in recorded(reader)] == [whole]
    assert ring.is_drained


@pytest.mark.usefixtures("impatient")
def test_the_rest_of_a_damaged_trial_is_nobody_s_also_after_a_restart(ring: Ring) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    writer.begin(new_trial_id(), make_provenance(), observation(0))
    for value in range(2):
        writer.step(columns(SPEC, value), observation(value + 1))
    damage(ring, 2)
    (trial,) = recorded(reader)
    assert (trial.outcome, trial.num_steps) == (Outcome.ABORTED, 1)
    writer.step(columns(SPEC, 2), observation(3))
    writer.end(Outcome.FAILURE)
    whole = write_trial(writer, SPEC, 10)
    restarted = RingReader(ring)
    assert [t.trial_id for t in recorded(reader)] == [whole]
    assert [t.trial_id for t in recorded(restarted)] == [whole]
    assert ring.is_drained


@pytest.mark.usefixtures("impatient")
def test_what_is_left_out_does_not_let_go_of_what_is_not_on_disk(ring: Ring) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    kept = write_trial(writer, SPEC, 0)
    write_trial(writer, SPEC, 10)
    damage(ring, 6)
    assert isinstance(reader.poll(0)[-1], TrialEnd)
    assert reader.poll(0) == []
    assert ring.control.tail == 0
    first = RingReader(ring).poll(0)[0]
    assert isinstance(first, TrialBegin)
    assert first.trial_id == kept
    reader.commit()
    assert ring.is_drained


def test_a_damaged_name_of_the_last_trial_is_no_reason_to_end(ring: Ring) -> None:
    write_trial(RingWriter(ring), SPEC, 0)
    ring.slots[ring.control.head - 1]["trial_id"] = b"\xff" * 36
    RingReader(ring).announce_acked(trial_id=new_trial_id(), ledger_seq=3)
    assert ring.control.acked == (0, 0)
