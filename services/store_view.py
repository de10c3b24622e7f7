"""A learner's store seen from beside: what a program on the same machine may read while it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learner.ledger import Ledger, TrialRow
from learner.status import TrainerStatus, read_status
from learner.store import TrialStore
from protos.trial import Source, Trial
from services.ingress_process import ADDRESS_FILE
from services.run_data import BatchMix


class StoreView:
    """Reads trainer status, ledger and trials of one store; never writes.

    Args:
        root: Folder of the store; it may come into being later.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def status(self) -> TrainerStatus | None:
        """Returns the trainer's last report; None before the first."""
        return read_status(self.root / "logs" / "trainer_status.json")

    def address(self) -> str | None:
        """Returns HOST:PORT of the learner; None while it does not serve."""
        try:
            return (self.root / ADDRESS_FILE).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def rows(self, *, since: int = 0, source: Source | None = None) -> list[TrialRow]:
        """Returns ledger rows after `since`; none while there is no ledger."""
        path = self.root / "ledger.sqlite"
        if not path.exists():
            return []
        ledger = Ledger.open(path, read_only=True)
        try:
            return [r for r in ledger.since(since) if source is None or r.source is source]
        finally:
            ledger.close()

    def last_seq(self) -> int:
        """Returns the newest `ledger_seq`; 0 without a ledger."""
        rows = self.rows()
        return rows[-1].ledger_seq or 0 if rows else 0

    def load(self, rows: Sequence[TrialRow]) -> list[Trial]:
        """Reads trials back, verified."""
        store = TrialStore.open(self.root, read_only=True)
        try:
            return [store.load(row.trial_id) for row in rows]
        finally:
            store.close()

    def batch_mix(self) -> BatchMix:
        """Reads which part of each batch was online data, from the metrics."""
        updates, fractions = [], []
        for line in self._metrics():
            fraction = line.get("online_fraction")
            if line.get("kind") == "updates" and fraction is not None:
                updates.append(int(line["num_updates"]))
                fractions.append(float(fraction))
        return BatchMix(num_updates=np.array(updates), online_fraction=np.array(fractions))

    def checkpoint_at(self, num_updates: int) -> Path | None:
        """Returns the folder of the checkpoint made after so many updates, if there is one."""
        found = sorted((self.root / "checkpoints").glob(f"{num_updates:010d}*"))
        whole = [p for p in found if p.name.replace(".", "").isdecimal()]
        return whole[-1] if whole else None

    def _metrics(self) -> list[dict[str, Any]]:
        path = self.root / "logs" / "metrics.jsonl"
        if not path.exists():
            return []
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue  # the line that a kill cut short
        return lines


def copy_as_control(view: StoreView, checkpoint: Path, root: Path) -> int:
    """Makes a store that has the offline trials of another one, and its checkpoint.

    Args:
        view: Where from. Only trials are taken that came before any other kind, so that both
            ledgers number them alike.
        checkpoint: Folder of the checkpoint to go on from.
        root: Where to; must not exist.

    Returns:
        Number of trials copied.
    """
    rows = view.rows(source=Source.OFFLINE)
    assert [row.ledger_seq for row in rows] == list(range(1, len(rows) + 1))
    store = TrialStore.open(root)
    try:
        for trial in view.load(rows):
            store.commit(trial)
    finally:
        store.close()
    shutil.copytree(checkpoint, root / "checkpoints" / checkpoint.name)
    return len(rows)
