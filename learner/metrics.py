"""Numbers of a training run: one JSON line now and then, and the same for TensorBoard.

Means are kept on the device that made the numbers and read only when a line is written, so that
counting never makes a GPU wait. A full disk costs numbers, never the training run: the line waits
in memory or is lost, and TensorBoard, which does not survive it, gets nothing more.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner.durable import StoreFull, full_disk_is_store_full
from learner.ledger import TrialRow

logger = logging.getLogger(__name__)


class Metrics:
    """Averages what updates report and writes it to `folder`.

    Args:
        folder: Gets `metrics.jsonl` and, below `tensorboard`, event files; made if absent.
        num_updates: Updates done so far; TensorBoard drops what it had beyond.
        is_tensorboard_on: Whether to write event files.
        unix_ns: Wall clock.

    Raises:
        StoreFull: There is no `metrics.jsonl` yet, and no room for one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_updates: int = 0,
        is_tensorboard_on: bool = True,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._unix_ns = unix_ns
        path = folder / "metrics.jsonl"
        with full_disk_is_store_full(str(path)):
            folder.mkdir(parents=True, exist_ok=True)
            # Line buffered: a kill may cut the last line short, never more.
            self._file = path.open("a", buffering=1, encoding="utf-8")
        if self._file.tell() and not _ends_with_newline(path):
            with _full_disk_is_said("metrics.jsonl"):
                self._file.write("\n")
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        self._board = None
        if is_tensorboard_on:
            from torch.utils.tensorboard import SummaryWriter

            with self._full_disk_ends_board():
                self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=num_updates)
        self._write("start", num_updates, {})

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Counts what one update reported; scalars by name."""
        names = tuple(metrics)
        values = torch.stack([metrics[name].detach().to(torch.float32) for name in names])
        total, count = self._sums.get(names, (torch.zeros_like(values), 0))
        self._sums[names] = (total + values, count + 1)

    def write(self, num_updates: int, scalars: Mapping[str, float]) -> dict[str, float]:
        """Writes the means since the last line, and `scalars`; returns them all."""
        means: dict[str, float] = {}
        for names, (total, count) in self._sums.items():
            means |= dict(zip(names, (total / count).tolist(), strict=True))
        self._sums.clear()
        means |= scalars
        self._write("updates", num_updates, means)
        self._show(means, num_updates)
        return means

    def write_trial(self, row: TrialRow, num_updates: int) -> None:
        """Writes how one committed trial went; TensorBoard counts by `ledger_seq`."""
        values = {"success": float(row.is_success), "total_reward": row.total_reward}
        self._write(
            "trial",
            num_updates,
            {
                **values,
                "ledger_seq": row.ledger_seq,
                "source": row.source.value,
                "outcome": row.outcome.value,
                "num_steps": row.num_steps,
                "weights_version": row.weights_version,
            },
        )
        named = {f"trials/{row.source.value}_{name}": value for name, value in values.items()}
        self._show(named, row.ledger_seq)

    def flush(self) -> None:
        """Hands TensorBoard's events to the file."""
        with self._full_disk_ends_board():
            if self._board is not None:
                self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        with _full_disk_is_said("metrics.jsonl"):
            self._file.close()
        with self._full_disk_ends_board():
            if self._board is not None:
                self._board.close()

    def _show(self, scalars: Mapping[str, float], at: int | None) -> None:
        with self._full_disk_ends_board():
            if self._board is not None:
                for name, value in scalars.items():
                    self._board.add_scalar(name, value, at)

    @contextmanager
    def _full_disk_ends_board(self) -> Iterator[None]:
        with _full_disk_is_said("TensorBoard"):
            try:
                yield
            except OSError:
                self._board = None
                raise

    def _write(self, kind: str, num_updates: int, values: Mapping[str, Any]) -> None:
        line = {"kind": kind, "num_updates": num_updates, "unix_ns": self._unix_ns()}
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }
        with _full_disk_is_said("metrics.jsonl"):
            self._file.write(json.dumps(line | finite, allow_nan=False) + "\n")


@contextmanager
def _full_disk_is_said(what: str) -> Iterator[None]:
    try:
        with full_disk_is_store_full(what):
            yield
    except StoreFull as error:
        logger.warning("metrics_not_written %s", error)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
