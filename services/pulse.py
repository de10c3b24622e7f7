"""What changes in the store while the ingress runs, read once for everybody who waits for it.

The trainer publishes weights and reports its state through files, trials are committed through the
ledger; one task looks at all three a few times a second, in the executor, and wakes whoever waits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.ledger import Ledger
from learner.weights import WeightsCorrupt, WeightsManifest, WeightStore
from protos import learner_pb2 as pb

logger = logging.getLogger(__name__)

PERIOD_S = 0.1
MAX_REASON_CHARS = 500
"""Of what the trainer waits for, or failed of; the rest is in the learner's log."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """The state of the store at one look."""

    ledger_seq: int = 0
    weights: WeightsManifest | None = None
    trainer: pb.TrainerStatus | None = None


class Waker:
    """Lets any number of tasks wait for the next change. Belongs to one event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """The event of the next change. Fetch it before looking at the state: nothing is missed."""
        return self._next

    def wake(self) -> None:
        """Wakes everybody who waits now."""
        self._next.set()
        self._next = asyncio.Event()


async def wait_for_any(events: Sequence[asyncio.Event], timeout_s: float) -> None:
    """Returns when one of `events` is set, or after `timeout_s`."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class Pulse:
    """Looks at a store again and again.

    Args:
        root: The store.
        ledger: Its ledger.
        executor: Where files are read.
        unix_ns: Wall clock, for the age of the trainer's report.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        executor: Executor,
        *,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.beat = Beat()
        self.changed = Waker()
        self.is_closing = False
        """Whoever waits shall go."""
        self._status_file = root / "logs" / "trainer_status.json"
        self._ledger = ledger
        self._weights = WeightStore(root / "weights")
        self._executor = executor
        self._unix_ns = unix_ns

    def close(self) -> None:
        """Wakes everybody who waits, for good."""
        self.is_closing = True
        self.changed.wake()

    async def run(self) -> None:
        """Looks until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            beat = await loop.run_in_executor(self._executor, self.look)
            is_news = (beat.ledger_seq, beat.weights) != (self.beat.ledger_seq, self.beat.weights)
            self.beat = beat
            if is_news:
                self.changed.wake()
            await asyncio.sleep(PERIOD_S)

    def look(self) -> Beat:
        """Reads the store once; blocks."""
        return Beat(
            ledger_seq=self._ledger.last_seq(),
            weights=self._newest_weights(),
            trainer=self._trainer(),
        )

    def _newest_weights(self) -> WeightsManifest | None:
        try:
            version = self._weights.latest_version()
            known = self.beat.weights
            if known is not None and known.version == version:
                return known
            return None if version is None else self._weights.manifest(version)
        except WeightsCorrupt as error:
            logger.warning("event=weights_unreadable reason=%s", error)
            return self.beat.weights

    def _trainer(self) -> pb.TrainerStatus | None:
        try:
            raw: dict[str, Any] = json.loads(self._status_file.read_text(encoding="utf-8"))
            return pb.TrainerStatus(
                state=str(raw["state"]),
                num_updates=int(raw["num_updates"]),
                updates_owed=int(raw["updates_owed"]),
                updates_per_second=float(raw["updates_per_second"]),
                num_offline_trials=int(raw["num_offline_trials"]),
                num_online_trials=int(raw["num_online_trials"]),
                weights_version=int(raw["weights_version"] or 0),
                ledger_seq=int(raw["ledger_seq"]),
                waiting_for=str(raw.get("waiting_for", ""))[:MAX_REASON_CHARS],
                status_age_s=max(0.0, (self._unix_ns() - int(raw["unix_ns"])) / 1e9),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("event=trainer_status_unreadable reason=%r", error)
            return self.beat.trainer


def trained_through(beat: Beat) -> int:
    """Returns the newest row of the ledger that the newest weights are the last word on.

    Weights name the row that they were trained through. A row after it that left nothing to train
    on (aborted, an evaluation, not readable) brings no new weights: once the trainer has seen it,
    owes nothing and stands where it published them, it is done with that row too.
    """
    weights, trainer = beat.weights, beat.trainer
    if weights is None:
        return 0
    is_settled = (
        trainer is not None
        and trainer.updates_owed == 0
        and trainer.weights_version == weights.version
        and trainer.num_updates == weights.train_step
    )
    return max(weights.ledger_seq, trainer.ledger_seq if trainer and is_settled else 0)


def weights_ref(manifest: WeightsManifest | None) -> pb.WeightsRef | None:
    """Turns a manifest into its short form for the wire."""
    if manifest is None:
        return None
    return pb.WeightsRef(
        version=manifest.version,
        sha256=manifest.sha256,
        num_bytes=manifest.num_bytes,
        train_step=manifest.train_step,
        created_unix_ns=manifest.created_unix_ns,
    )
