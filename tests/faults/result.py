"""What became of one fault, as data and as a row of the table in deploy/safety.md."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from services.demo_config import CONFIGS
from tests.marked_table import with_part

DATA = CONFIGS.parent / "results" / "faults.json"
PAGE = CONFIGS.parent / "safety.md"
_HEAD = (
    "| fault | while | last target | at rest | latched | trial | cleared by itself | after ack |",
    "|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True, kw_only=True)
class FaultResult:
    """What one fault did. Times are milliseconds after it, by the arm double's own record."""

    fault: str
    during: str
    """`trial` or `reset`."""
    stops: bool
    """Whether the arm is to stop for it."""
    told_ms: float
    """Until when the arm was told to move: its last target; 0 if none came any more."""
    rest_ms: float | None
    """When the set point stood still for good; None where it does not."""
    latched: str
    """Code of the latched fault; empty for none."""
    trial: str
    """`aborted`, `complete`, or `none` where none had begun. The trial is in the spool."""
    cleared_itself: bool
    """Whether the fault was gone, or the arm moved, before a person cleared it."""
    refused_first: bool | None = None
    """Whether the ack was refused while the cause was there; None where it goes by itself."""
    resumed: bool
    """Whether a trial was on again after the ack, or without one where nothing latched."""


@dataclass(frozen=True, kw_only=True)
class FaultRun:
    """A whole run: every fault, and where and when it was measured."""

    machine: str
    date: str
    control_hz: float
    results: tuple[FaultResult, ...]
    not_measured: tuple[str, ...] = ()
    """Faults that have never been measured, `NAME, DURING`."""

    @property
    def bound_ms(self) -> float:
        """Two periods and 50 ms: by then the arm's commanded speed is zero."""
        return 2000.0 / self.control_hz + 50.0

    def over_bound(self) -> list[FaultResult]:
        """Returns the faults after which the set point moved for longer than the bound."""
        return [
            r for r in self.results if r.stops and (r.rest_ms is None or r.rest_ms > self.bound_ms)
        ]

    def to_json(self) -> str:
        """Returns it as the text of a file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, path: Path = DATA) -> FaultRun:
        """Reads `to_json`'s file."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        results = tuple(FaultResult(**result) for result in raw.pop("results"))
        return cls(**raw | {"not_measured": tuple(raw["not_measured"])}, results=results)

    def with_result(self, result: FaultResult) -> FaultRun:
        """Returns it with this one in the place of the one of its name and phase, or at the end."""
        by_case = {(r.fault, r.during): r for r in self.results}
        by_case[result.fault, result.during] = result
        name = f"{result.fault}, {result.during}"
        return dataclasses.replace(
            self,
            results=tuple(by_case.values()),
            not_measured=tuple(n for n in self.not_measured if n != name),
        )


def row(result: FaultResult) -> str:
    """Returns a result as a row of the table."""
    told = f"{result.told_ms:.0f} ms" if result.stops else "goes on"
    rest = _rest(result) if result.stops else "goes on"
    ack = "goes on" if result.resumed else "**does not go on**"
    if result.refused_first is not None:
        ack += ", refused before" if result.refused_first else ", **not refused before**"
    cells = (
        result.fault,
        result.during,
        told,
        rest,
        f"`{result.latched}`" if result.latched else "nothing",
        result.trial,
        "**yes**" if result.cleared_itself else "no",
        ack,
    )
    return f"| {' | '.join(cells)} |"


def _rest(result: FaultResult) -> str:
    return "**never**" if result.rest_ms is None else f"{result.rest_ms:.0f} ms"


def table(run: FaultRun) -> str:
    """Returns the part of deploy/safety.md that a run decides."""
    over = run.over_bound()
    words = ", ".join(f"{r.fault}, {r.during} ({_rest(r)})" for r in over)
    verdict = f"Over the bound: {words}." if over else "None was over the bound."
    lines = (
        f"Measured on {run.date} at {run.control_hz:g} Hz, {run.machine}, both vendors' SDKs at",
        "the doubles of arm and camera. *Last target*: until when after the fault the arm was told",
        "to move, a hold included. *At rest*: when the controller's set point stood still; the",
        f"bound is two periods and 50 ms, {run.bound_ms:.0f} ms. {verdict}",
        "",
        *_HEAD,
        *(row(result) for result in run.results),
        *(["", f"Not measured yet: {'; '.join(run.not_measured)}."] if run.not_measured else []),
    )
    return "\n".join(lines) + "\n"


def with_table(page: str, run: FaultRun) -> str:
    """Returns the page with the run's table between its two marks; ValueError without them."""
    return with_part(page, "faults", table(run))
