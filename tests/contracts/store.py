"""What every store of trials promises; a test class derives from this and gives a fresh one."""

from __future__ import annotations

import numpy as np
import pytest

from learner.store import TrialStore
from protos.trial import Outcome, Source, Trial, TrialRejected
from tests.learner.trials import make_trial, trial_id_of, with_reward


def assert_same(first: Trial, second: Trial) -> None:
    assert first.header() == second.header()
    mine, theirs = first.columns(), second.columns()
    assert mine.keys() == theirs.keys()
    for name, column in mine.items():
        assert column.dtype == theirs[name].dtype
        assert np.array_equal(column, theirs[name], equal_nan=column.dtype.kind == "f"), name


class StoreContract:
    """Derive, and override the `store` fixture."""

    @pytest.fixture
    def store(self) -> TrialStore:
        raise NotImplementedError

    def test_a_trial_comes_back_as_it_was(self, store: TrialStore) -> None:
        trial = make_trial(1, num_steps=7, is_noisy=True, outcome=Outcome.SUCCESS)
        store.commit(trial)
        assert_same(store.load(trial.trial_id), trial)

    def test_an_aborted_trial_without_a_step_comes_back(self, store: TrialStore) -> None:
        trial = make_trial(1, num_steps=0, outcome=Outcome.ABORTED)
        store.commit(trial)
        assert_same(store.load(trial.trial_id), trial)

    def test_the_same_trial_again_is_a_duplicate_and_a_success(self, store: TrialStore) -> None:
        first = store.commit(make_trial(1))
        again = store.commit(make_trial(1))
        assert not first.is_duplicate
        assert again.is_duplicate
        assert again.ledger_seq == first.ledger_seq
        assert len(list(store.iter_rows())) == 1

    def test_another_trial_under_the_same_id_is_refused_and_kept_aside(
        self, store: TrialStore
    ) -> None:
        store.commit(make_trial(1))
        for _ in range(2):
            with pytest.raises(TrialRejected, match="quarantine"):
                store.commit(with_reward(make_trial(1), 0.5))
        assert_same(store.load(trial_id_of(1)), make_trial(1))
        assert [row.trial_id for row in store.ledger.quarantined()] == [trial_id_of(1)]

    def test_rows_come_in_order_of_commit(self, store: TrialStore) -> None:
        sources = [Source.OFFLINE, Source.ONLINE, Source.EVAL, Source.ONLINE]
        for number, source in zip((3, 1, 2, 0), sources, strict=True):
            store.commit(make_trial(number, source=source))
        rows = list(store.iter_rows())
        assert [row.trial_id for row in rows] == [trial_id_of(n) for n in (3, 1, 2, 0)]
        sequence = [row.ledger_seq or 0 for row in rows]
        assert sequence == sorted(set(sequence))
        online = store.iter_rows(source=Source.ONLINE, since=sequence[1])
        assert [row.trial_id for row in online] == [trial_id_of(0)]
        assert [row.source for row in store.iter_rows(is_trainable=False)] == [Source.EVAL]

    def test_an_unknown_trial_is_a_key_error(self, store: TrialStore) -> None:
        with pytest.raises(KeyError):
            store.load(trial_id_of(9))

    def test_no_path_leads_out_of_the_store(self, store: TrialStore) -> None:
        for name in ("../../x", "/etc/passwd", "a\0b", "x" * 10_000, ""):
            with pytest.raises(TrialRejected):
                store.load(name)
