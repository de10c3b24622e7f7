"""The control loop's process: builds the robot and runs its trials.

`python -m services.loop RUN.toml`, started by the actor's supervisor. During a trial this process
touches no disk, no network and no log (`services/trial_run.py`); weights change between trials only
(`services/trial_series.py`). Whatever ends it, the arm is stopped on the way out: signals are heard
before there is an arm, and what takes seconds to load is loaded before it. Loading, and the first
plan of new weights, are broken off by a signal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robot.clock import Clock, MonotonicClock, SimulatedClock
from robot.interfaces import RobotFault
from services.actor_config import ActorRun
from services.actor_robot import make_env
from services.logs import configure_logging
from services.planning import PlanningAtOnce, PlanningStuck, PlanningThread, is_stuck
from services.process import (
    CannotStart,
    ExitCode,
    Interrupted,
    StopFlag,
    be_urgent,
    end_with_parent,
    run_to_exit_code,
)
from services.ring_control import LoopState
from services.ring_memory import Ring
from services.trial_series import LoopFailed, TrialSeries, noise_seed

if TYPE_CHECKING:
    from services.weights_slot import WeightsSlot

logger = logging.getLogger(__name__)


def run_loop(run: ActorRun, stop: StopFlag) -> None:
    """Builds the robot and runs the loop; the robot is stopped and let go of in any case.

    Args:
        run: What the supervisor asked for.
        stop: Ends the loop; set before there is a robot, none is made.

    Raises:
        CannotStart: The ring is another robot's, something is not installed, or a real robot is not
            ready.
        LoopFailed: See `TrialSeries.run`.
    """
    config, ring = run.config, Ring(run.ring)
    clock: Clock = SimulatedClock()
    if config.pace == "real":
        clock = MonotonicClock()
        be_urgent(config.niceness)
    try:
        with stop.interrupting():
            slot = _make_slot(run, ring) if config.policy == "model" else None
    except Interrupted:
        ring.control.loop_state = LoopState.STOPPED
        return
    try:
        env = make_env(config, clock, lambda: stop.is_set or ring.control.is_stop_requested != 0)
    except ImportError as error:
        raise CannotStart(f"robot {config.robot!r} needs what is not installed: {error}") from error
    except RobotFault as fault:
        raise CannotStart(f"robot {config.robot!r} is not ready: {fault}") from fault
    with contextlib.ExitStack() as letting_go, contextlib.ExitStack() as ending:
        ending.callback(env.close)
        ending.callback(env.stop)
        if env.spec != ring.spec:
            raise CannotStart(f"robot and ring differ: {ring.spec.difference(env.spec)}")
        # Made after the loop has become urgent, and closed after the arm was stopped.
        can_be_late = slot is not None and config.pace == "real"
        planning = PlanningThread(clock) if can_be_late else PlanningAtOnce(clock)
        letting_go.callback(planning.close)
        try:
            TrialSeries(run, ring, env, clock, slot, stop, planning).run()
        except Interrupted:
            ring.control.loop_state = LoopState.STOPPED


def _make_slot(run: ActorRun, ring: Ring) -> WeightsSlot:
    import torch

    from services.weights_slot import WeightsSlot

    config = run.config
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise CannotStart(f"device {config.device!r}: torch finds no such GPU here")
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    return WeightsSlot(
        config.spool / "weights",
        ring.spec,
        device=config.device,
        seed=noise_seed(run, ring),
        control=ring.control,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the loop that a run file describes; returns the exit code."""
    stop = StopFlag()
    stop.set_on_signals()
    (path,) = sys.argv[1:] if argv is None else argv
    configure_logging("loop")
    run = ActorRun.read(Path(path))
    end_with_parent(run.parent_pid)
    has_failed = False

    def work() -> None:
        nonlocal has_failed
        try:
            run_loop(run, stop)
        except (LoopFailed, PlanningStuck) as error:
            logger.error("event=loop_failed reason=%s", error)
            has_failed = True

    code = run_to_exit_code(work)
    code = ExitCode.CRASHED if has_failed else code
    if is_stuck():
        # The interpreter would not end well under a thread that still computes.
        logging.shutdown()
        os._exit(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
