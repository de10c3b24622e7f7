"""Trials lost and doubled while trainer, ingress, recorder and loop are killed at random.

A short run of the harness that `make chaos` runs for longer: a real learner with its Ray, a real
actor, SIGKILL at random moments, and afterwards a comparison of what the loop said, what the ring
counted, what the spool keeps and what the learner committed.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
from pathlib import Path

from services.children import offworld
from tests.bench.row import Row
from tests.e2e.system_audit import check_learner, score
from tests.e2e.system_rig import PROCESSES, System
from tests.e2e.test_system_kills import counting


def measure(*, kills: int) -> list[Row]:
    """Kills each process so many times, lets everything come up again, and compares.

    Raises:
        AssertionError: A process did not come back, or the trainer learned from anything but the
            complete trials, once each.
    """
    seed = secrets.randbits(32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with System(folder, counting(folder), seed=seed) as system:
            system.wait_for_trials(1)
            system.kill_each(kills)
            version = system.settle()
        found = score(system, _num_problems(folder / "store", system.config.spool))
        check_learner(system, version)
    what = f"{kills} kill -9 of each of {len(PROCESSES)} processes (seed {seed}): trials"
    return [
        Row(figure=f"{what} begun", value=system.ring.num_begun, unit=""),
        Row(figure=f"{what} lost", value=found.lost, unit="", target="0"),
        Row(figure=f"{what} doubled", value=found.doubled, unit="", target="0"),
        Row(figure=f"{what} damaged", value=found.mismatched, unit="", target="0"),
    ]


def _num_problems(store: Path, spool: Path) -> int:
    command = offworld("trials", "verify", "--store", str(store), "--spool", str(spool), "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return len(json.loads(done.stdout)["problems"])
