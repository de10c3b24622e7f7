"""The guard's process beside loops that are killed, frozen and thawed, and killed itself.

What happened to the arm is read from its own record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import guard
from tests.robot.recording_arm import Entry
from tests.services.guard_processes import PERIOD_NS, GuardProcess
from tests.services.rig import wait_until

# Two periods and 50 ms: by then nobody may command a speed any more.
STOPPED_NS = 2 * PERIOD_NS + 50_000_000
# How long the arm needs to brake from full speed, and the guard to look once more.
BRAKING_NS = 135_000_000


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GuardProcess]:
    process = GuardProcess(tmp_path)
    try:
        process.wait_until_there()
        yield process
    finally:
        process.end()


def commanded_until_ns(record: list[Entry], since_ns: int) -> int:
    """Returns when the arm was last told to be elsewhere than it was."""
    return max(
        (e.t_ns for e in record if e.kind == "command" and e.t_ns > since_ns), default=since_ns
    )


def moved_until_ns(record: list[Entry]) -> int:
    """Returns when the arm was last seen in motion."""
    return max(e.t_ns for e in record if e.speed_m_s > 1e-3)


def fault_on_disk(process: GuardProcess) -> str:
    return json.loads((process.folder / guard.FAULT_FILE).read_text())["code"]


def test_a_loop_that_is_killed_in_motion_stops_the_arm_and_latches(running: GuardProcess) -> None:
    loop = running.drive()
    killed_ns = time.monotonic_ns()
    loop.kill()
    wait_until(lambda: (running.folder / guard.FAULT_FILE).exists())
    wait_until(lambda: running.record()[-1].speed_m_s == 0.0)
    record = running.record()
    (stop,) = [entry for entry in record if entry.kind == "stop"]
    assert stop.speed_m_s > 0.05
    assert stop.t_ns - killed_ns <= STOPPED_NS
    assert commanded_until_ns(record, killed_ns) <= stop.t_ns
    assert moved_until_ns(record) - killed_ns <= STOPPED_NS + BRAKING_NS
    assert fault_on_disk(running) == "loop_gone"
