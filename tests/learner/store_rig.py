"""Where a store is, where it keeps a trial, and how that one's row is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.learner.trials import trial_id_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def group_of(root: Path, number: int, archive: str = "offline.zarr") -> Path:
    return root / archive / "trials" / trial_id_of(number)


def lose_the_row(root: Path, number: int) -> None:
    ledger = sqlite3.connect(root / "ledger.sqlite", isolation_level=None)
    ledger.execute("DELETE FROM trials WHERE trial_id = ?", (trial_id_of(number),))
    ledger.close()
