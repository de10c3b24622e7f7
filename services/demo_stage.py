"""The parts of a demo as processes: started, watched, stopped; their progress on the screen.

Every part is the real one. What it does is read from the store, not from what it prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from learner.ledger import TrialRow
from learner.status import TrainerState, TrainerStatus
from protos.trial import Outcome, Source
from services import console
from services.children import Child, offworld
from services.console import Bar
from services.demo_config import DemoConfig
from services.store_view import StoreView
from services.trial_log import COLUMNS, TrialLine

_LOOK_S = 0.2


class DemoFailed(RuntimeError):
    """A part of the demo ended or did not do its work; the message shows the end of its log."""


class Stage:
    """Runs parts of a demo and shows how far they are.

    Args:
        settings: What to run, and where.
    """

    def __init__(self, settings: DemoConfig) -> None:
        self.settings = settings
        self.out = settings.out

    def make_data(self, file: str, view: StoreView, total: int) -> None:
        """Records the offline trials that the configuration `file` asks for."""
        with (
            self._child("data", "data", "make", "--config", file) as child,
            self._bar("offline trials", total) as bar,
        ):
            while True:
                has_ended = child.exit_code is not None
                rows = view.rows()
                bar.update(len(rows), f"{sum(row.is_success for row in rows)} successful")
                if has_ended:
                    break
                time.sleep(_LOOK_S)
            _require_done(child)

    @contextmanager
    def learner(self, name: str, view: StoreView, *flags: str) -> Iterator[Child]:
        """Runs a learner on the store of `view` for the length of the block."""
        arguments = (
            "learner",
            *("--config", str(self.settings.learner_config)),
            *("--store", str(view.root)),
            *("--listen", "127.0.0.1:0"),
            *("--seed", str(self.settings.seed)),
            *flags,
        )
        with self._child(name, *arguments) as child:
            self.wait_until(f"the {name} to listen", child, lambda: view.address() is not None)
            yield child

    def train(
        self, learner: Child, view: StoreView, label: str, goal: int | None = None
    ) -> TrainerStatus:
        """Waits until the trainer has made all updates it owes, and `goal` at least."""
        self.wait_until("the trainer to start", learner, lambda: _has_loaded(view.status()))
        status = view.status()
        assert status is not None
        with self._bar(label, max(status.num_updates + status.updates_owed, goal or 0)) as bar:
            while not _is_settled(status, view.last_seq(), goal):
                bar.update(status.num_updates, f"{status.updates_per_second:.1f} updates/s")
                _require_alive(learner)
                if status.state is TrainerState.FAILED:
                    raise DemoFailed(f"the trainer failed: {status.waiting_for}")
                time.sleep(_LOOK_S)
                status = view.status() or status
            bar.update(status.num_updates)
        return status

    def wait_until(self, what: str, child: Child, is_over: Callable[[], bool]) -> None:
        """Waits while `child` runs, and says for what."""
        waiting = console.Waiting(f"{what}; log: {child.log}")
        while not is_over():
            # Not at once: what takes a second need not be announced.
            if waiting.elapsed_s > 1.0 and not self.settings.json:
                waiting.still()
            _require_alive(child)
            time.sleep(_LOOK_S)

    def trials(
        self,
        label: str,
        learner: Child,
        view: StoreView,
        *,
        source: Source,
        num_trials: int,
        flags: tuple[str, ...] = (),
    ) -> list[TrialRow]:
        """Runs an actor for some trials and returns them as the ledger has them."""
        name = label.replace(",", "").replace(" ", "-")
        arguments = (
            "actor",
            *("--config", str(self.settings.actor_config)),
            *("--learner", view.address() or ""),
            *("--spool", str(self.out / "spools" / name)),
            *("--source", source.value),
            *("--trials", str(num_trials)),
            *("--seed", str(self.settings.seed)),
            "--exit-when-done",
            *flags,
        )
        feed = _TrialTable(label, view, source)
        with self._child(name, *arguments) as actor, self._live(feed.draw) as redraw:
            while True:
                has_ended = actor.exit_code is not None
                for line in feed.read():
                    self._say(f"{label}: {line}")
                redraw()
                if has_ended:
                    break
                _require_alive(learner)
                time.sleep(_LOOK_S)
            _require_done(actor)
        if len(feed.rows) != num_trials:
            raise DemoFailed(
                f"{label}: {len(feed.rows)} of {num_trials} trials were committed. The end of "
                f"{actor.log}:\n{actor.log_tail()}"
            )
        return feed.rows

    @contextmanager
    def _child(self, name: str, *arguments: str) -> Iterator[Child]:
        with Child(name, offworld(*arguments), log=self.out / "logs" / f"{name}.log") as child:
            yield child

    @contextmanager
    def _bar(self, label: str, total: float) -> Iterator[Bar]:
        with console.bar(label, total, is_quiet=self.settings.json) as bar:
            yield bar

    @contextmanager
    def _live(self, draw: Callable[[], Any]) -> Iterator[Callable[[], None]]:
        if self.settings.json:
            yield lambda: None
            return
        with console.live(draw) as redraw:
            yield redraw

    def _say(self, text: str) -> None:
        if not (self.settings.json or console.is_terminal()):
            console.say(console.safe(text))


class _TrialTable:
    """The trials of one source that a store got since this was made; aborted ones left out."""

    def __init__(self, label: str, view: StoreView, source: Source) -> None:
        self.rows: list[TrialRow] = []
        self._label, self._view, self._source = label, view, source
        self._seen_seq = view.last_seq()

    def read(self) -> list[TrialLine]:
        """Returns what is new."""
        new = self._view.rows(since=self._seen_seq)
        if new:
            self._seen_seq = new[-1].ledger_seq or 0
        fitting = [r for r in new if r.source is self._source and r.outcome is not Outcome.ABORTED]
        self.rows += fitting
        return [TrialLine.from_row(row) for row in fitting]

    def draw(self) -> Any:
        """Returns the table, with what the trainer is doing above it."""
        status = self._view.status()
        doing = "" if status is None else f"   trainer: {status.state.value}"
        if status is not None and status.updates_owed:
            doing += f", {status.updates_owed} updates owed"
        cells = [TrialLine.from_row(row).cells() for row in self.rows]
        return console.table(COLUMNS, cells, self._label + doing)


def _require_alive(child: Child) -> None:
    if child.exit_code is not None:
        raise DemoFailed(
            f"the {child.name} ended with exit code {child.exit_code}. The end of {child.log}:\n"
            + child.log_tail()
        )


def _require_done(child: Child) -> None:
    if child.exit_code != 0:
        _require_alive(child)


def _has_loaded(status: TrainerStatus | None) -> bool:
    return status is not None and status.state is not TrainerState.LOADING


def _is_settled(status: TrainerStatus, last_seq: int, goal: int | None) -> bool:
    return (
        status.state is TrainerState.WAITING
        and not status.updates_owed
        and status.ledger_seq >= last_seq
        and status.weights_version > 0
        and status.num_updates >= (goal or 0)
    )
