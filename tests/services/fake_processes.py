"""Stand-ins for the actor's two processes that misbehave in one way each."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from protos.trial import Outcome, new_trial_id
from services.actor_config import ActorRun
from services.process import ExitCode, end_with_parent
from services.ring import RingReader, RingWriter
from services.ring_control import LoopState
from services.ring_memory import Ring
from tests.services.ring_processes import columns, make_provenance


def blank(ring: Ring) -> dict[str, np.ndarray]:
    return {f.name: np.zeros(f.shape, f.dtype) for f in ring.spec.observations}


def write_blank_trial(ring: Ring) -> None:
    writer = RingWriter(ring)
    writer.begin(new_trial_id(), make_provenance(), blank(ring))
    for step in range(ring.spec.max_steps):
        is_last = step == ring.spec.max_steps - 1
        writer.step(columns(ring.spec, step, is_last=is_last), blank(ring))
    writer.end(Outcome.FAILURE)


def main(role: str, file: Path) -> int:
    run = ActorRun.read(file)
    end_with_parent(run.parent_pid)
    ring = Ring(run.ring)
    control = ring.control
    if role == "fault":  # stopped until a person clears it
        control.fault = "collision: something was in the way"
        control.loop_state = LoopState.FAULT
        return ExitCode.CRASHED
    if role == "crash":
        return ExitCode.CRASHED
    if role == "refuse":
        return ExitCode.CANNOT_START
    if role == "hang":  # in the middle of a trial
        RingWriter(ring).begin(new_trial_id(), make_provenance(), blank(ring))
        control.loop_heartbeat_ns = time.monotonic_ns()
        control.loop_state = LoopState.IN_TRIAL
        threading.Event().wait()
    if role == "two_trials":
        for _ in range(2):
            write_blank_trial(ring)
        control.loop_state = LoopState.DONE
        return ExitCode.DONE
    if role == "done":
        control.loop_state = LoopState.DONE
        return ExitCode.DONE
    if role == "deaf":  # does not end when asked to
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        control.loop_state = LoopState.BETWEEN_TRIALS
        threading.Event().wait()
    if role == "record":  # a recorder that has no learner and commits nothing
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
        reader = RingReader(ring)
        while not stop.is_set():
            reader.poll(0.02)
        return ExitCode.DONE
    raise ValueError(role)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
