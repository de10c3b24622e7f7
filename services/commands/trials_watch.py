"""`offworld trials watch`: committed trials and live steps, as they come."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from services import console, trial_log
from services.commands.flags import DEFAULT_STORE, OutputFlags, SourceFlags
from services.intervals import Rate
from services.logs import configure_logging
from services.process import ExitCode
from services.trial_feed import Event, Gap, LiveStep, follow_learner, follow_store
from services.trial_log import TrialLine

_NUM_ROWS = 20
_FRAME_LINES = 3
"""Heading, its rule, and the line the cursor is on."""


@dataclass(frozen=True, kw_only=True)
class WatchFlags(OutputFlags, SourceFlags):
    """Follows trials: a table on a terminal, one line an event elsewhere. Ctrl-C ends it."""

    after: int = 0
    """Begin after this number of the ledger; the last one seen, to go on later."""
    steps: bool = False
    """Also tell every step, where it is known (with --learner)."""
    follow: bool = True
    """Wait for more; otherwise end when all that is committed was told."""


def watch(flags: WatchFlags) -> int:
    """Tells events until Ctrl-C, or until all is told."""
    configure_logging("watch", level="WARNING")
    board = Board()
    is_table = console.is_terminal() and not flags.json
    try:
        if is_table:
            with console.live(board.draw) as redraw:
                for event in _events(flags):
                    board.take(event)
                    redraw()
        else:
            for event in _events(flags):
                _tell(event, flags)
    except KeyboardInterrupt:
        return ExitCode.DONE
    return ExitCode.DONE


class Board:
    """The newest trials, how often they succeed, and what happens in each actor now."""

    def __init__(self) -> None:
        self._lines: deque[TrialLine] = deque(maxlen=_NUM_ROWS)
        self._now: dict[str, LiveStep] = {}
        self._num_missed = 0

    def take(self, event: Event) -> None:
        """Counts one event."""
        if isinstance(event, TrialLine):
            self._lines.append(event)
            self._now.pop(event.actor, None)
        elif isinstance(event, LiveStep):
            self._now[event.actor] = event
        else:
            self._num_missed += event.num_events

    def draw(self) -> Table:
        """Returns the table: of the newest trials, as many as fit on the screen."""
        caption = [f"success of the newest, {source}: {rate}" for source, rate in self._rates()]
        caption += [f"now: {console.safe(_step_text(step))}" for step in self._now.values()]
        if self._num_missed:
            caption.append(f"{self._num_missed} live events were missed")
        room = max(1, shutil.get_terminal_size().lines - _FRAME_LINES - len(caption))
        lines = list(self._lines)[-room:]
        made = console.table(trial_log.COLUMNS, [line.cells() for line in lines])
        made.caption = console.plain("\n".join(caption))
        made.caption_justify = "left"
        return made

    def _rates(self) -> list[tuple[str, Rate]]:
        """Returns the success of the trials shown, by source; aborted ones do not count."""
        done = [line for line in self._lines if line.outcome != "aborted"]
        return [
            (
                source,
                Rate(
                    successes=sum(x.outcome == "success" for x in done if x.source == source),
                    trials=sum(x.source == source for x in done),
                ),
            )
            for source in dict.fromkeys(line.source for line in done)
        ]


def _events(flags: WatchFlags) -> Iterator[Event]:
    if flags.learner is not None:
        return follow_learner(flags.learner, flags.after, is_following=flags.follow, security=flags)
    root = flags.store or DEFAULT_STORE
    return follow_store(root, flags.after, is_following=flags.follow)


def _tell(event: Event, flags: WatchFlags) -> None:
    if isinstance(event, LiveStep) and event.kind == "step" and not flags.steps:
        return
    if flags.json:
        console.emit_json(_to_json(event))
    elif isinstance(event, TrialLine):
        console.say(console.safe(event))
    elif isinstance(event, LiveStep):
        console.say(console.safe(_step_text(event)))
    else:
        console.say(f"{event.num_events} live events were missed")


def _to_json(event: Event) -> dict[str, Any]:
    name = {TrialLine: "trial", LiveStep: "live", Gap: "gap"}[type(event)]
    values = dataclasses.asdict(event)
    return {"event": name} | {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def _step_text(step: LiveStep) -> str:
    text = f"{step.actor}  {step.trial_id}  {step.kind}"
    if step.kind == "step":
        text += f" {step.step}  reward {step.reward:g}"
        if not math.isnan(step.value):
            text += f"  value {step.value:.2f}  uncertainty {step.uncertainty:.2f}"
        text += f"  v{step.weights_version}{'  late' if step.is_late else ''}"
    return text + (f"  {step.text}" if step.text else "")
