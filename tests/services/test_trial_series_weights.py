"""Weights change between trials only, and are waited for only while better ones may come."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from protos.trial import Outcome, Trial
from services.records import Record, StepRecord
from services.ring_control import LoopState
from services.trial_series import LoopFailed
from tests.services import loop_site
from tests.services.loop_site import Site, mark_of, versions
from tests.services.rig import wait_until
from tests.services.small_weights import publish, small_tensors

site = loop_site.site


def test_it_waits_for_the_first_weights_and_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    loop = site.start(policy="model", trials=1)
    site.wait_for(LoopState.WAITING_FOR_WEIGHTS)
    deadline = time.monotonic() + 30
    while "the first weights" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "the first weights" in caplog.text
    assert site.ring.num_begun == 0
    site.announce()
    loop.join()
    (trial,) = site.recorder.finish()
    assert versions(trial) == {1}
    assert len(trial.provenance.weights_digest) == 64
    assert np.isfinite(trial.steps["plan_value"]).all()
    assert site.ring.control.num_swaps == 1
    assert site.ring.control.last_swap_ns > 0


def test_weights_change_between_trials_only(site: Site) -> None:
    site.announce()

    def announce_in_the_middle(record: Record) -> None:
        if isinstance(record, StepRecord) and record.index == 2 and len(site.recorder.trials) == 1:
            site.announce()

    site.recorder.on_record = announce_in_the_middle
    site.loop(policy="model", trials=4, unreachable_s=60.0, wait_weights_s=0.0).run()
    seen = [versions(t) for t in site.recorder.finish()]
    assert seen[:2] == [{1}, {1}]
    assert seen[3] == {2}
    assert all(len(v) == 1 for v in seen)


def test_it_waits_for_weights_that_learned_from_the_last_trial(site: Site) -> None:
    site.announce()
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    timers: list[threading.Timer] = []

    def learn(trial: Trial) -> None:
        ledger_seq = 10 + len(site.recorder.trials)
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=ledger_seq)
        site.announce(ledger_seq - 1)  # not yet trained on it
        timers.append(threading.Timer(0.05, lambda: site.announce(ledger_seq)))
        timers[-1].start()

    site.recorder.on_trial = learn
    site.loop(policy="model", trials=4, unreachable_s=5.0).run()
    trials = site.recorder.finish()
    for timer in timers:
        timer.join()
    # Version 3 is the first one after trial 1 that learned from it, 5 after trial 2, and so on.
    assert [versions(t) for t in trials] == [{1}, {3}, {5}, {7}]


def test_it_does_not_wait_for_weights_that_will_never_come(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.announce(ledger_seq=3)
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    def settle(trial: Trial) -> None:
        """The learner holds the trial, finds nothing in it to train on, and says so."""
        number = len(site.recorder.trials)
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=10 + number)
        reader.announce_trained(version=1, ledger_seq=10 + number)

    site.recorder.on_trial = settle
    loop = site.start(policy="model", trials=3, unreachable_s=60.0, wait_weights_s=600.0)
    loop.join(timeout=60)
    assert not loop.is_alive()
    assert [versions(t) for t in site.recorder.finish()] == [{1}] * 3
    assert "event=weights_late" not in caplog.text


def test_it_does_not_wait_for_a_trainer_that_has_failed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.announce(ledger_seq=3)
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    def settle(trial: Trial) -> None:
        """The learner holds the trial, and has nobody who could train on it."""
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=11)
        reader.announce_trainer(has_failed=True)

    site.recorder.on_trial = settle
    loop = site.start(policy="model", trials=2, unreachable_s=60.0, wait_weights_s=600.0)
    loop.join(timeout=60)
    assert not loop.is_alive()
    assert [versions(t) for t in site.recorder.finish()] == [{1}] * 2
    assert "reason='the trainer has failed'" in caplog.text


@pytest.mark.parametrize("trained", [(1, 10), (2, 11)])
def test_it_waits_while_the_learner_may_still_have_better_weights(
    site: Site, trained: tuple[int, int]
) -> None:
    site.announce(ledger_seq=3)
    reader = site.recorder.reader
    reader.announce_link(is_up=True)

    def settle(trial: Trial) -> None:
        reader.announce_acked(trial_id=trial.trial_id, ledger_seq=11)
        version, ledger_seq = trained
        reader.announce_trained(version=version, ledger_seq=ledger_seq)

    site.recorder.on_trial = settle
    loop = site.start(policy="model", trials=2, unreachable_s=60.0, wait_weights_s=600.0)
    site.wait_for(LoopState.WAITING_FOR_WEIGHTS)
    wait_until(lambda: site.ring.control.acked == (1, 11))
    assert site.ring.num_begun == 1
    site.announce(ledger_seq=11)
    loop.join(timeout=60)
    assert [versions(t) for t in site.recorder.finish()] == [{1}, {2}]


def test_an_evaluation_keeps_its_weights_from_the_first_trial_to_the_last(site: Site) -> None:
    first = site.announce()
    site.recorder.on_trial = lambda _trial: site.announce() and None
    site.loop(policy="model", source="eval", trials=2).run()
    site.loop(policy="model", source="eval", trials=3).run()  # the loop died, and another goes on
    assert [versions(t) for t in site.recorder.finish()] == [{first.version}] * 3
    assert site.ring.control.num_refused == 0


@pytest.mark.parametrize("is_replaced", [True, False])
def test_an_evaluation_whose_weights_are_gone_is_not_continued_with_others(
    site: Site, *, is_replaced: bool
) -> None:
    site.announce()
    site.loop(policy="model", source="eval", trials=2).run()
    site.replace_learner()
    if is_replaced:  # the same number, other weights
        manifest = publish(site.weights, site.spec, tensors=small_tensors(site.spec, seed=1))
        site.recorder.reader.announce_weights(mark_of(manifest))
    with pytest.raises(LoopFailed, match="began with, version 1, cannot be used"):
        site.loop(policy="model", source="eval", trials=3).run()
    assert site.ring.control.loop_state == LoopState.FAULT, "it is not started again"
    assert len(site.recorder.finish()) == 2


@pytest.mark.parametrize("is_up", [True, False])
def test_it_goes_on_with_the_last_good_weights(site: Site, *, is_up: bool) -> None:
    site.announce()
    site.recorder.reader.announce_link(is_up=is_up)
    began = time.monotonic()
    wait_s = 0.05 if is_up else 60.0
    site.loop(policy="model", trials=3, wait_weights_s=wait_s).run()
    assert time.monotonic() - began < 20
    assert [versions(t) for t in site.recorder.finish()] == [{1}] * 3


def test_an_aborted_trial_is_not_waited_for(site: Site) -> None:
    site.announce()
    site.recorder.reader.announce_link(is_up=True)
    observe, num_observed = site.env.observe, 0

    def sometimes_slow() -> object:
        nonlocal num_observed
        num_observed += 1
        if num_observed <= 3:
            site.clock.advance(250_000_000)
        return observe()

    site.env.observe = sometimes_slow  # type: ignore[method-assign]
    began = time.monotonic()
    site.loop(policy="model", trials=1, max_missed_in_a_row=2).run()
    assert time.monotonic() - began < 20
    trials = site.recorder.finish()
    assert [t.outcome for t in trials] == [Outcome.ABORTED, Outcome.FAILURE]
