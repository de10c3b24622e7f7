"""A signal ends a process wherever it arrives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.process import StopRequests
from tests.services.rig import ROOT

# The worst moment: the main thread is in `wait`, and holds the lock that `set` needs.
PROCESS = """
import itertools, os, signal, threading
from services.process import stop_on_signals
stop = threading.Event()
stop_on_signals(stop, itertools.count(0.0, SECONDS_BETWEEN).__next__)
with stop._cond:
    os.kill(os.getpid(), signal.SIGTERM)
stop.wait()
"""
ACTOR = """
import itertools, os, signal
from services.process import StopSignals
stop = StopSignals(itertools.count(0.0, SECONDS_BETWEEN).__next__)
stop.install()
for event in (stop._asked, stop._hurried):
    with event._cond:
        os.kill(os.getpid(), signal.SIGTERM)
    event.wait()
assert stop.is_asked and stop.is_hurried
"""
TWICE = PROCESS + "os.kill(os.getpid(), signal.SIGTERM)"
ACTOR_ECHO = """
import itertools, os, signal
from services.process import StopSignals
stop = StopSignals(itertools.count(0.0, SECONDS_BETWEEN).__next__)
stop.install()
for _ in range(3):
    os.kill(os.getpid(), signal.SIGTERM)
assert stop._asked.wait(20.0) and not stop._hurried.wait(0.1)
"""


@pytest.mark.parametrize(
    ("code", "seconds_between", "expected"),
    [
        (PROCESS, 1.0, 0),
        (ACTOR, 1.0, 0),
        (TWICE, 1.0, 143),
        (TWICE, 0.9, 0),
        (ACTOR_ECHO, 0.4, 0),
    ],
)
def test_a_signal_in_the_middle_of_a_wait_does_not_hang(
    code: str, seconds_between: float, expected: int
) -> None:
    code = code.replace("SECONDS_BETWEEN", str(seconds_between))
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=20, check=False)
    assert ended.returncode == expected


def test_what_follows_a_request_at_once_is_its_echo() -> None:
    times_s = iter([5.0, 5.2, 5.9, 6.0, 6.1, 90.0])
    requests = StopRequests(lambda: next(times_s))
    assert [requests.heard() for _ in range(6)] == [1, 1, 1, 2, 2, 3]
