"""`make faults`: every fault of a real arm's path at the doubles, and the table of what came of it.

    python -m tests.faults                        # all; writes data and table
    python -m tests.faults --only "plug" --dry    # those whose name has it; writes nothing

One result at a time is written to deploy/results/faults.json, and the table of deploy/safety.md is
made from that file alone.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services import config
from services.machine import machine
from tests.faults.cases import CASES
from tests.faults.result import DATA, PAGE, FaultResult, FaultRun, row, with_table
from tests.faults.strike import strike


@dataclass(frozen=True, kw_only=True)
class FaultFlags:
    """Has every fault happen once, prints a row each, and writes them down."""

    only: str = ""
    """Part of the names of the faults to run; empty for all."""
    control_hz: float = 10.0
    """Of the loop; the shipped configuration's."""
    dry: bool = False
    """Write neither data nor table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the faults; 1 if one of them did not go as it should."""
    flags = config.load(
        FaultFlags, sys.argv[1:] if argv is None else argv, prog="python -m tests.faults"
    )
    cases = [case for case in CASES if flags.only in f"{case.name} {case.during}"]
    results: list[FaultResult] = []
    num_failed = 0
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            try:
                results.append(strike(case, Path(folder), control_hz=flags.control_hz))
            except AssertionError as error:
                num_failed += 1
                sys.stdout.write(f"FAILED {case.name}, {case.during}: {error}\n")
                continue
        sys.stdout.write(f"{row(results[-1])}\n")
        sys.stdout.flush()
    run = FaultRun(
        machine=machine(),
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y"),
        control_hz=flags.control_hz,
        results=tuple(results),
    )
    for result in run.over_bound():
        sys.stdout.write(f"over the bound of {run.bound_ms:.0f} ms: {result.fault}\n")
    if not flags.dry and not num_failed:
        if flags.only:
            run = FaultRun.read().with_results(results)
        DATA.write_text(run.to_json(), encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), run), encoding="utf-8")
    return 1 if num_failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
