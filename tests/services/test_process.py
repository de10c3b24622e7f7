"""A signal ends a process wherever it arrives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.services.rig import ROOT

# The worst moment: the main thread is in `wait`, and holds the lock that `set` needs.
PROCESS = """
import os, signal, threading
from services.process import stop_on_signals
stop = threading.Event()
stop_on_signals(stop)
with stop._cond:
    os.kill(os.getpid(), signal.SIGTERM)
stop.wait()
"""
ACTOR = """
import os, signal
from services.actor import StopSignals
stop = StopSignals()
stop.install()
for event in (stop._asked, stop._hurried):
    with event._cond:
        os.kill(os.getpid(), signal.SIGTERM)
    event.wait()
assert stop.is_asked and stop.is_hurried
"""
TWICE = PROCESS + "os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize(("code", "expected"), [(PROCESS, 0), (ACTOR, 0), (TWICE, 143)])
def test_a_signal_in_the_middle_of_a_wait_does_not_hang(code: str, expected: int) -> None:
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=20, check=False)
    assert ended.returncode == expected
