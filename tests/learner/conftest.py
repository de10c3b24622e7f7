"""Closes what tests open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from learner.ledger import Ledger


@pytest.fixture(autouse=True)
def _close_ledgers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[Ledger] = []
    make = Ledger.__init__

    def make_and_note(ledger: Ledger, connection: sqlite3.Connection) -> None:
        make(ledger, connection)
        opened.append(ledger)

    monkeypatch.setattr(Ledger, "__init__", make_and_note)
    yield
    for ledger in opened:
        ledger.close()
