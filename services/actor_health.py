"""How an actor is, from what it leaves on its own machine: no learner is asked, and nobody waits.

Its processes beat in the ring's control block; a fault that waits for a person lies in SPOOL/run,
and what is not delivered in the spool. An actor without a learner is well: it is made for that.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robot.fault_store import FaultStore
from services.actor import RUN_FILE
from services.actor_config import ActorRun
from services.actor_folder import PID_FILE
from services.config import ConfigError
from services.guard import FAULT_FILE
from services.ring_control import Control, LinkState, LoopState
from services.ring_memory import RingUnusable, read_control
from services.spool_db import SpoolCorrupt, SpoolFull, SpoolVersionMismatch, reading

_LOOP_SILENT_S = 30.0
"""As long as the supervisor gives a loop in a trial."""
_RECORDER_SILENT_S = 10.0
"""It beats twenty times a second, between two writes to the disk."""
_STARTING_S = 120.0
"""Longer does not take what a loop loads, nor a guard until it has its arm."""
_BEATING = frozenset(LoopState) - {
    LoopState.STARTING,
    LoopState.DONE,
    LoopState.STOPPED,
    LoopState.FAULT,
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why an actor is not well."""

    what: str
    is_silent: bool
    """It does not run, or does not answer; else it runs and waits for a person."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the processes of a running actor say of themselves."""

    actor_id: str
    robot: str
    learner: str
    loop_state: str
    loop_silent_s: float | None
    """Since the loop's last beat; None before the first one."""
    recorder_silent_s: float | None
    link: str
    """Whether the learner answers: `up`, `down` or `unknown`."""
    weights_version: int
    """In use; 0 for none."""
    num_ticks: int
    num_missed: int
    """Steps whose plan, or whose command, was not there in time."""
    has_trainer_failed: bool
    """So the learner says."""


@dataclass(frozen=True, kw_only=True)
class ActorHealth:
    """How the actor of one spool is."""

    work: Work | None
    """None if it does not run."""
    fault: str
    """What stopped the loop or the arm; empty while nothing did."""
    trials: dict[str, int] = field(default_factory=dict)
    """Trials in the spool by state: `open`, `ready` (not sent yet), `acked`, `rejected`."""
    problems: tuple[Problem, ...]

    @property
    def is_well(self) -> bool:
        """Whether nobody needs to look at it."""
        return not self.problems


def read_health(spool: Path) -> ActorHealth:
    """Looks at the actor that works in `spool`; changes nothing."""
    run = spool / "run"
    problems: list[Problem] = []
    work, fault = None, ""
    try:
        actor = _running(spool)
        control = read_control(actor.ring)
    except (_NotRunning, ConfigError, RingUnusable) as error:
        problems.append(Problem(what=str(error), is_silent=True))
    else:
        work, fault = _work(actor, control), control.fault
        problems += _silence(run, control, work)
        if control.is_spool_full:
            what = f"the disk of {spool} is full: no trial begins; free some"
            problems.append(Problem(what=what, is_silent=False))
    latched = FaultStore(run / FAULT_FILE).load()
    if latched is not None:
        fault = str(latched.fault())
        what = f"{fault}; once its cause is gone: offworld actor ack --spool {spool}"
        problems.append(Problem(what=what, is_silent=False))
    elif fault:
        problems.append(Problem(what=fault, is_silent=False))
    trials: dict[str, int] = {}
    try:
        trials = _count_trials(spool)
    except (SpoolCorrupt, SpoolFull, SpoolVersionMismatch, sqlite3.OperationalError) as error:
        what = f"the spool {spool} cannot be read: {error}"
        problems.append(Problem(what=what, is_silent=False))
    return ActorHealth(work=work, fault=fault, trials=trials, problems=tuple(problems))


class _NotRunning(RuntimeError):
    """No actor works in that spool right now; the message says how that is known."""


def _running(spool: Path) -> ActorRun:
    """Returns what the running actor was told; `_NotRunning` if there is none."""
    file, run_file = spool / "run" / PID_FILE, spool / "run" / RUN_FILE
    try:
        pid = int(file.read_text(encoding="ascii"))
        os.kill(pid, 0)
        run = ActorRun.read(run_file) if run_file.exists() else None
    except (FileNotFoundError, ValueError):
        raise _NotRunning(f"no actor runs in {spool}") from None
    except ProcessLookupError:
        raise _NotRunning(f"the actor of {spool} ended without a word; start it again") from None
    except OSError as error:
        raise _NotRunning(f"{spool} cannot be looked at: {error}") from error
    if run is None or run.parent_pid != pid:
        raise _NotRunning(f"process {pid} works in {spool}, and it is no actor that has started")
    return run


def _work(run: ActorRun, control: Control) -> Work:
    return Work(
        actor_id=run.config.actor_id,
        robot=run.config.robot,
        learner=run.config.learner,
        loop_state=LoopState(control.loop_state).name.lower(),
        loop_silent_s=_since_s(control.loop_heartbeat_ns),
        recorder_silent_s=_since_s(control.recorder_heartbeat_ns),
        link=LinkState(control.link_state).name.lower(),
        weights_version=control.weights_in_use,
        num_ticks=control.num_ticks,
        num_missed=control.num_missed,
        has_trainer_failed=control.has_trainer_failed != 0,
    )


def _silence(run: Path, control: Control, work: Work) -> Iterator[Problem]:
    """Yields what does not beat, and should."""
    state = control.loop_state
    if state == LoopState.STARTING:
        yield from _late_start(run, "loop", _STARTING_S)
    elif state in _BEATING and (work.loop_silent_s or 0.0) > _LOOP_SILENT_S:
        what = f"the loop has been silent for {work.loop_silent_s:.0f} s, {work.loop_state}"
        yield Problem(what=what, is_silent=True)
    if work.recorder_silent_s is None:
        yield from _late_start(run, "recorder", _RECORDER_SILENT_S)
    elif work.recorder_silent_s > _RECORDER_SILENT_S:
        what = f"the recorder has been silent for {work.recorder_silent_s:.0f} s"
        yield Problem(what=what, is_silent=True)


def _late_start(run: Path, name: str, most_s: float) -> Iterator[Problem]:
    """Yields a problem if a process that has not beaten yet should have, by now."""
    began_s = 0.0
    for file in (run / f"{name}.pid", run / RUN_FILE):
        with contextlib.suppress(FileNotFoundError):
            began_s = max(began_s, file.stat().st_mtime)
    age_s = time.time() - began_s
    if age_s > most_s:
        yield Problem(what=f"the {name} has been starting for {age_s:.0f} s", is_silent=True)


def _since_s(beat_ns: int) -> float | None:
    return (time.monotonic_ns() - beat_ns) / 1e9 if beat_ns else None


def _count_trials(spool: Path) -> dict[str, int]:
    counts: dict[str, int] = {"open": 0, "ready": 0, "acked": 0, "rejected": 0}
    try:
        with reading(spool) as connection:
            found = connection.execute("SELECT state, count(*) FROM trials GROUP BY state")
            counts.update(found.fetchall())
    except FileNotFoundError:
        pass  # nothing was ever recorded
    return counts
