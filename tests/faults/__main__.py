"""`make faults`: every fault of a real arm's path at the doubles, and the table of what came of it.

    python -m tests.faults                        # all; writes data and table
    python -m tests.faults --only "plug" --dry    # those whose name has it; writes nothing

Results go to deploy/results/faults.json as they come; the table of deploy/safety.md is made from
that file alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services import config
from services.machine import machine
from tests.faults.cases import CASES
from tests.faults.result import DATA, PAGE, FaultRun, row, with_table
from tests.faults.strike import strike


@dataclass(frozen=True, kw_only=True)
class FaultFlags:
    """Has every fault happen once, prints a row each, and writes them down."""

    only: tuple[str, ...] = ()
    """Parts of the names of the faults to run; none for all."""
    control_hz: float = 10.0
    """Of the loop; the shipped configuration's."""
    dry: bool = False
    """Write neither data nor table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the faults; 1 if one of them did not go as it should."""
    flags = config.load(
        FaultFlags, sys.argv[1:] if argv is None else argv, prog="python -m tests.faults"
    )
    cases = [
        case
        for case in CASES
        if not flags.only or any(part in f"{case.name}, {case.during}" for part in flags.only)
    ]
    run = FaultRun(
        machine=machine(),
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y"),
        control_hz=flags.control_hz,
        results=(),
        not_measured=tuple(f"{case.name}, {case.during}" for case in CASES),
    )
    if flags.only and not flags.dry:
        before = FaultRun.read()
        run = dataclasses.replace(run, results=before.results, not_measured=before.not_measured)
    num_failed = 0
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = strike(case, Path(folder), control_hz=flags.control_hz)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                num_failed += 1
                sys.stdout.write(f"FAILED {case.name}, {case.during}: {error}\n")
                continue
        run = run.with_result(result)
        sys.stdout.write(f"{row(result)}\n")
        sys.stdout.flush()
        if not flags.dry:
            DATA.write_text(run.to_json(), encoding="utf-8")
            PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), run), encoding="utf-8")
    for result in run.over_bound():
        sys.stdout.write(f"over the bound of {run.bound_ms:.0f} ms: {result.fault}\n")
    return 1 if num_failed or run.over_bound() else 0


if __name__ == "__main__":
    raise SystemExit(main())
