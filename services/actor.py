"""`offworld actor`: runs one robot. Starts the loop and the recorder, and watches over both.

A real arm has a guard too: started before the loop, and without it there is no loop.

The recorder is always started again; the loop only for a simulated robot, and never after a fault,
the guard never: a real arm waits for a person. A stop ends the loop first, then the guard, then
gives the recorder a moment to deliver; what is not delivered stays in the spool and is sent after
the next start. No process outlives this one, and what a killed actor leaves in memory is brought to
disk at the next start.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from services.actor_config import ActorConfig, ActorRun
from services.actor_desk import desk_of, with_attendance
from services.actor_folder import ActorFolder
from services.actor_robot import robot_spec
from services.config import load
from services.kept_guard import KeptGuard
from services.kept_process import KeptProcess, describe_end
from services.logs import configure_logging
from services.process import (
    CannotStart,
    ExitCode,
    StopSignals,
    disk_is_usable,
    software_version,
)
from services.ring import RingWriter
from services.ring_control import LinkState, LoopState
from services.ring_memory import Ring, RingUnusable

logger = logging.getLogger(__name__)

RUN_FILE = "actor.toml"
LOOP_DIED = "the loop died during the trial"
_LOOK_S = 0.05
_LOOP_STOP_S = 3.0
_ARM_LOOP_STOP_S = 12.0
"""A real arm on its way to a start gets there first."""
_RECORDER_STOP_S = 3.0
_HUNG_S = 30.0
_STARTS_WITHOUT_TRIAL = 5
_STARTS_WITHOUT_COMPLETE_TRIAL = 30


def command(name: str, run_file: Path) -> list[str]:
    """Returns the command line of `loop` or `recorder`."""
    return [sys.executable, "-m", f"services.{name}", str(run_file)]


class Supervisor:
    """One run of an actor, from start to stop.

    Args:
        config: What to do.
        folder: The locked folder.
        ring: Between the two processes; made for this run.
        stop: Says when to stop.
    """

    def __init__(
        self, config: ActorConfig, folder: ActorFolder, ring: Ring, stop: StopSignals
    ) -> None:
        self._config = config
        self._folder = folder
        self._ring = ring
        self._stop = stop
        file = folder.run / RUN_FILE
        self._recorder, self._loop = (
            KeptProcess(
                name,
                command(name, file),
                folder=folder.run,
                pass_fds=(folder.children_lock,),
            )
            for name in ("recorder", "loop")
        )
        self._guard = (
            KeptGuard(folder, config.limits.absolute(), config.ip)
            if not config.is_simulated and config.limits is not None
            else None
        )
        self._is_done = False
        self._done_at_s = 0.0
        self._num_begun = 0
        self._num_idle_starts = 0
        self._num_complete = 0
        self._num_fruitless_starts = 0

    def run(self) -> int:
        """Works until there is a reason to stop, and stops; returns the exit code."""
        verdict: int | None = None
        try:
            while verdict is None:
                verdict = self._look_at_recorder()
                if verdict is None and self._guard is not None:
                    verdict = self._guard.look()
                if verdict is None and (self._guard is None or self._guard.is_serving):
                    verdict = self._look_at_loop()
                if verdict is None and (self._stop.is_asked or self._is_over()):
                    verdict = ExitCode.DONE
                self._stop.pause(_LOOK_S)
        finally:
            self._shut_down()
        return verdict

    def _look_at_recorder(self) -> int | None:
        code = self._recorder.keep()
        if code is None:
            return None
        logger.warning("event=recorder_ended how=%s", describe_end(code))
        if code == ExitCode.CANNOT_START:
            return code
        self._recorder.start_again()
        return None

    def _look_at_loop(self) -> int | None:
        """Returns an exit code when the loop ended for good and for no good."""
        if self._is_done:
            return None
        self._kill_if_hung()
        code = self._loop.keep()
        if code is None:
            return None
        state = self._ring.control.loop_state
        if code == ExitCode.DONE and state == LoopState.DONE:
            self._is_done, self._done_at_s = True, time.monotonic()
            logger.info("event=loop_done complete=%d", self._ring.num_complete)
            return None
        logger.error(
            "event=loop_ended how=%s fault=%r", describe_end(code), self._ring.control.fault
        )
        self._ring.control.loop_state = LoopState.STARTING
        if RingWriter(self._ring).abort_open_trial(LOOP_DIED):
            logger.warning("event=trial_aborted trial=%s", self._ring.last_trial[1])
        if code == ExitCode.CANNOT_START:
            return code
        if state == LoopState.FAULT or not self._config.is_simulated:
            return ExitCode.CRASHED
        self._num_idle_starts = (
            self._num_idle_starts + 1 if self._ring.num_begun == self._num_begun else 0
        )
        self._num_begun = self._ring.num_begun
        self._num_fruitless_starts = (
            self._num_fruitless_starts + 1 if self._ring.num_complete == self._num_complete else 0
        )
        self._num_complete = self._ring.num_complete
        if (
            self._num_idle_starts >= _STARTS_WITHOUT_TRIAL
            or self._num_fruitless_starts >= _STARTS_WITHOUT_COMPLETE_TRIAL
        ):
            idle, fruitless = self._num_idle_starts, self._num_fruitless_starts
            logger.error("event=loop_given_up idle=%d fruitless=%d starts", idle, fruitless)
            return ExitCode.CRASHED
        self._loop.start_again()
        return None

    def _kill_if_hung(self) -> None:
        control = self._ring.control
        age_ns = time.monotonic_ns() - control.loop_heartbeat_ns
        if control.loop_state == LoopState.IN_TRIAL and age_ns > _HUNG_S * 1e9:
            logger.error("event=loop_hung silent_s=%.0f", age_ns / 1e9)
            control.loop_heartbeat_ns = time.monotonic_ns()
            self._loop.send(signal.SIGKILL)

    def _is_delivered(self) -> bool:
        return self._ring.is_drained and self._ring.control.unsent_trials == 0

    def _is_over(self) -> bool:
        """Whether all trials are made and delivered, or delivery was waited for long enough."""
        if not (self._is_done and self._config.exit_when_done):
            return False
        waited_s = time.monotonic() - self._done_at_s
        return self._is_delivered() or waited_s >= self._config.upload_wait_s

    def _shut_down(self) -> None:
        """Stops loop and guard, lets the recorder deliver for a moment, and stops it too."""
        began_s = time.monotonic()
        self._ring.control.is_stop_requested = 1
        loop_s = _LOOP_STOP_S if self._guard is None else _ARM_LOOP_STOP_S
        self._end(self._loop, began_s + loop_s)
        if self._guard is not None:
            self._guard.stop()
        RingWriter(self._ring).abort_open_trial(LOOP_DIED)
        drained_at_s = time.monotonic() + self._config.drain_s
        while (
            self._recorder.is_alive()
            and not self._stop.is_hurried
            and not self._is_delivered()
            and self._ring.control.link_state == LinkState.UP
            and time.monotonic() < drained_at_s
        ):
            self._stop.pause(_LOOK_S)
        self._end(self._recorder, max(time.monotonic(), began_s) + _RECORDER_STOP_S)
        num_unsent = self._ring.control.unsent_trials
        num_begun, num_complete = self._ring.num_begun, self._ring.num_complete
        if self._ring.is_drained:
            self._ring.unlink()
        else:
            num_unsent = self._folder.recover(self._config.reserve_bytes, LOOP_DIED).num_waiting
        logger.info(
            "event=stopped complete=%d aborted=%d not_delivered=%d took_s=%.1f",
            num_complete,
            num_begun - num_complete,
            num_unsent,
            time.monotonic() - began_s,
        )
        if num_unsent:
            logger.warning(
                "event=not_delivered trials=%d spool=%s; they are safe there and are sent after "
                "the next start",
                num_unsent,
                self._folder.root,
            )

    def _end(self, process: KeptProcess, deadline_s: float) -> None:
        """Asks a process to end and, at the deadline or when hurried, makes it."""
        process.send(signal.SIGTERM)
        while not process.wait(0.0):
            if self._stop.is_hurried or time.monotonic() >= deadline_s:
                logger.warning("event=killed process=%s", process.name)
                process.kill()
                return
            self._stop.pause(_LOOK_S)


def run_actor(config: ActorConfig, stop: StopSignals | None = None) -> int:
    """Runs an actor until it is done or asked to stop; returns its exit code.

    Args:
        config: What to do.
        stop: Says when to stop; None to take SIGTERM and SIGINT (main thread only).

    Raises:
        CannotStart: Another actor uses the spool, or there is no memory or disk for this one.
        NotATerminal: There shall be an operator, and nobody can type.
    """
    if stop is None:
        stop = StopSignals()
        stop.install()
    with ActorFolder(config.spool) as folder:
        config = with_attendance(dataclasses.replace(config, spool=folder.root))
        found = folder.recover(config.reserve_bytes)
        try:
            ring = Ring.create(folder.ring_path, robot_spec(config), num_trials=config.ring_trials)
        except RingUnusable as error:
            raise CannotStart(str(error)) from error
        run = ActorRun(
            ring=ring.path,
            incarnation=uuid.uuid4().hex,
            software=software_version(),
            parent_pid=os.getpid(),
            num_trials_before=found.num_begun,
            config=config,
        )
        with disk_is_usable(folder.run / RUN_FILE):
            run.write(folder.run / RUN_FILE)
        logger.info(
            "event=actor actor=%s robot=%s learner=%s spool=%s waiting_trials=%d",
            config.actor_id,
            config.robot,
            config.learner,
            folder.root,
            found.num_waiting,
        )
        with desk_of(config, folder.run, ring, stop):
            return Supervisor(config, folder, ring, stop).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    config = load(ActorConfig, sys.argv[1:] if argv is None else argv, prog="offworld actor")
    configure_logging("actor")
    return run_actor(config)
