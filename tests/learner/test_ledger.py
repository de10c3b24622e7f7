"""One row a trial, in order, for ever; damage and other versions are noticed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from learner.ledger import (
    Ledger,
    LedgerCorrupt,
    QuarantineRow,
    StoreVersionMismatch,
    TrialRow,
)
from protos.trial import Outcome, Source
from tests.learner.trials import make_trial, trial_id_of


def make_row(number: int, **change: object) -> TrialRow:
    trial = make_trial(number, source=Source.ONLINE, outcome=Outcome.SUCCESS)
    row = TrialRow.from_trial(
        trial, digest=trial.digest(), group_sha256="ab", committed_unix_ns=number
    )
    return TrialRow(**{**{k: getattr(row, k) for k in row.__dataclass_fields__}, **change})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.sqlite")


def test_a_row_comes_back_as_it_was_with_its_number(ledger: Ledger) -> None:
    seq = ledger.append(make_row(4))
    assert ledger.get(trial_id_of(4)) == make_row(4, ledger_seq=seq)
    assert ledger.get(trial_id_of(5)) is None


def test_since_gives_only_what_is_newer(ledger: Ledger) -> None:
    assert ledger.last_seq() == 0
    numbers = [ledger.append(make_row(n)) for n in (7, 3, 5)]
    assert ledger.last_seq() == numbers[-1]
    assert [r.trial_id for r in ledger.since(numbers[0])] == [trial_id_of(3), trial_id_of(5)]
    assert ledger.since(numbers[-1]) == []
    assert [r.trial_id for r in ledger.since(0, limit=2)] == [trial_id_of(7), trial_id_of(3)]


def test_one_trial_cannot_have_two_rows(ledger: Ledger) -> None:
    ledger.append(make_row(1))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.append(make_row(1, digest="other"))
    assert len(ledger.since(0)) == 1


def test_a_reader_sees_rows_as_they_are_committed(tmp_path: Path, ledger: Ledger) -> None:
    reader = Ledger.open(tmp_path / "ledger.sqlite", read_only=True)
    assert reader.last_seq() == 0
    ledger.append(make_row(1))
    assert reader.last_seq() == 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.append(make_row(2))


def test_rows_survive_closing(tmp_path: Path, ledger: Ledger) -> None:
    ledger.append(make_row(1))
    ledger.close()
    again = Ledger.open(tmp_path / "ledger.sqlite")
    assert again.append(make_row(2)) == 2
    assert [row.ledger_seq for row in again.since(0)] == [1, 2]


@pytest.mark.parametrize(
    ("outcome", "source", "expected"),
    [
        (Outcome.SUCCESS, Source.OFFLINE, True),
        (Outcome.FAILURE, Source.ONLINE, True),
        (Outcome.ABORTED, Source.ONLINE, False),
        (Outcome.SUCCESS, Source.EVAL, False),
    ],
)
def test_trainable_means_the_same_as_for_the_trial(
    outcome: Outcome, source: Source, *, expected: bool
) -> None:
    assert make_row(1, outcome=outcome, source=source).is_trainable is expected
    assert make_trial(1, outcome=outcome, source=source).is_trainable is expected


def test_quarantine_keeps_each_refused_trial_once(ledger: Ledger) -> None:
    row = QuarantineRow(trial_id=trial_id_of(1), digest="aa", reason="no", unix_ns=5)
    ledger.quarantine(row)
    ledger.quarantine(row)
    assert ledger.quarantined() == [row]


def test_a_changed_row_is_noticed(tmp_path: Path, ledger: Ledger) -> None:
    ledger.append(make_row(1))
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("UPDATE trials SET total_reward = total_reward + 1")
    other.close()
    with pytest.raises(LedgerCorrupt, match="row 1"):
        ledger.get(trial_id_of(1))


@pytest.mark.parametrize("read_only", [False, True])
def test_another_version_is_refused(tmp_path: Path, ledger: Ledger, *, read_only: bool) -> None:
    ledger.close()
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(StoreVersionMismatch, match="version 7; this program reads version 1"):
        Ledger.open(tmp_path / "ledger.sqlite", read_only=read_only)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"no database at all, " * 500)
    with pytest.raises(LedgerCorrupt, match="not a database"):
        Ledger.open(path)
    with pytest.raises(FileNotFoundError, match="offworld store"):
        Ledger.open(tmp_path / "absent.sqlite", read_only=True)


def test_the_ledger_is_durable_before_append_returns(ledger: Ledger) -> None:
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
