"""Trials one after the other, and what happens between them.

Between two trials the loop waits for room in ring and spool and, as long as the learner answers and
its trainer has not failed, for weights that were trained on the trial before, or for the learner's
word that none will be; otherwise it goes on with the last good ones. How many trials are complete
is read from the ring, so that a loop that was started again goes on where the one before it died.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from protos.trial import Outcome, Provenance, Source, new_trial_id
from robot.clock import Clock
from robot.env import RobotEnv
from robot.sim.config import EVAL_POSITIONS
from services.actor_config import ActorRun
from services.overseer import ControlOverseer, Nobody, Overseer
from services.pilot import Pilot, RandomPilot
from services.planning import Planning, PlanningAtOnce
from services.process import StopFlag
from services.records import NO_WEIGHTS, WeightsMark
from services.ring import RingWriter
from services.ring_control import LinkState, LoopState
from services.ring_memory import Ring
from services.trial_run import (
    DISCARDED,
    STEERED,
    TrialLimits,
    TrialOrder,
    TrialResult,
    TrialRunner,
)

if TYPE_CHECKING:  # it brings torch, which a loop that draws its actions does without
    from services.weights_slot import WeightsSlot

logger = logging.getLogger(__name__)

_LOOK_S = 0.01
_SAY_EVERY_S = 30.0


class LoopFailed(RuntimeError):
    """The loop cannot go on: the robot has a latched fault, or trial after trial was aborted."""


def noise_seed(run: ActorRun, ring: Ring) -> int:
    """Returns the seed of the exploration noise of a loop that starts now.

    It depends on how many trials began before, so that a loop that is started again does not
    explore what the one before it has explored.
    """
    return _draw_seed(run.config.seed, 2, run.num_trials_before + ring.num_begun)


def _draw_seed(seed: int, stream: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, stream, number]).generate_state(1)[0])


class TrialSeries:
    """Runs the trials that the configuration asks for.

    Args:
        run: What the supervisor asked for.
        ring: Where records and words go.
        env: The robot.
        clock: The robot's clock, which paces the trials.
        slot: Holds the model; None to draw actions at random.
        stop: Ends the trial that is running as aborted, and then the loop.
        planning: Asks whoever decides on the actions; None to wait for each decision.
    """

    def __init__(
        self,
        run: ActorRun,
        ring: Ring,
        env: RobotEnv,
        clock: Clock,
        slot: WeightsSlot | None,
        stop: StopFlag,
        planning: Planning | None = None,
    ) -> None:
        self._run, self._config = run, run.config
        self._ring, self._control = ring, ring.control
        self._writer = RingWriter(ring)
        self._env, self._overseer = env, self._make_overseer()
        self._planning = planning or PlanningAtOnce(clock)
        self._runner = TrialRunner(
            env=env,
            clock=clock,
            writer=self._writer,
            control=ring.control,
            limits=TrialLimits(
                max_uncertainty=run.config.max_uncertainty,
                max_missed_in_a_row=run.config.max_missed_in_a_row,
            ),
            should_stop=self.should_stop,
            planning=self._planning,
            overseer=self._overseer,
        )
        self._slot, self._stop = slot, stop
        self._random = RandomPilot(ring.spec.action_size, noise_seed(run, ring))
        self._num_aborted_in_a_row = 0

    def _make_overseer(self) -> Overseer:
        size = self._ring.spec.action_size
        return ControlOverseer(self._control, size) if self._config.is_attended else Nobody()

    def should_stop(self) -> bool:
        """Whether to end now, in the middle of a trial if need be."""
        return self._stop.is_set or self._control.is_stop_requested != 0

    def run(self) -> None:
        """Runs trials until there are enough, or until asked to stop.

        Raises:
            LoopFailed: The robot has a latched fault, or too many trials in a row were aborted.
            Interrupted: Asked to stop while weights made their first plan.
        """
        last: TrialResult | None = None
        while not self._is_done():
            pilot = self._prepare(last)
            if pilot is None or not self._wait(
                LoopState.WAITING_FOR_OPERATOR, self._may_begin, "the operator"
            ):
                break
            # Before the state: whoever watches takes an old beat in a trial for a loop that hangs.
            self._control.loop_heartbeat_ns = time.monotonic_ns()
            self._control.loop_state = LoopState.IN_TRIAL
            last = self._runner.run(self._next_order(), pilot)
            self._control.loop_state = LoopState.BETWEEN_TRIALS
            self._say_how(last)
            self._raise_if_hopeless(last)
        self._control.loop_state = LoopState.DONE if self._is_done() else LoopState.STOPPED

    def _is_done(self) -> bool:
        trials = self._config.trials
        return trials is not None and self._ring.num_complete >= trials

    def _prepare(self, last: TrialResult | None) -> Pilot | None:
        """Waits until a trial may begin; None when asked to stop meanwhile."""
        self._control.loop_state = LoopState.BETWEEN_TRIALS
        if not self._wait(LoopState.WAITING_FOR_ROOM, self._has_room, "room for a trial"):
            return None
        if self._slot is None:
            return None if self.should_stop() else self._random
        slot = self._slot
        if not self._wait(LoopState.WAITING_FOR_WEIGHTS, self._has_weights, "the first weights"):
            return None
        if self._config.source == Source.ONLINE and last and last.outcome is not Outcome.ABORTED:
            began = time.monotonic()
            has_given_up = self._giving_up(began + self._config.wait_weights_s)
            what = "weights trained on the last trial"
            if not self._wait(
                LoopState.WAITING_FOR_WEIGHTS,
                lambda: self._is_trained_through() or has_given_up(),
                what,
            ):
                return None
            if not self._is_trained_through():
                logger.warning(
                    "event=weights_late waited_s=%.1f weights=%d reason=%r",
                    time.monotonic() - began,
                    slot.version,
                    "the trainer has failed" if self._control.has_trainer_failed else "none came",
                )
        return slot.pilot

    def _may_begin(self) -> bool:
        """Whether the person lets a trial begin, or none can: its reset says why at once."""
        return self._overseer.may_begin or self._env.fault is not None

    def _wait(self, state: LoopState, is_over: Callable[[], bool], what: str) -> bool:
        """Waits until `is_over`; False when asked to stop meanwhile. Says so, now and then."""
        saying = time.monotonic() + 1.0
        while not self.should_stop():
            if is_over():
                return True
            self._control.loop_state = state
            self._control.loop_heartbeat_ns = time.monotonic_ns()
            if time.monotonic() >= saying:
                logger.info("event=waiting for=%r", what)
                saying = time.monotonic() + _SAY_EVERY_S
            time.sleep(_LOOK_S)
        return False

    def _has_room(self) -> bool:
        """Whether the last trial is on disk and another one fits into ring and spool.

        A recorder that has died does not stop the trials before the ring is full.
        """
        if self._control.recorder_heartbeat_ns == 0:
            return False  # none has ever worked: nothing would come of a trial
        is_behind = not self._ring.is_drained and self._is_recorder_alive()
        return not (is_behind or self._control.is_spool_full) and self._writer.has_room

    def _is_recorder_alive(self) -> bool:
        age_ns = time.monotonic_ns() - self._control.recorder_heartbeat_ns
        return age_ns < self._config.unreachable_s * 1e9

    def _has_weights(self) -> bool:
        """Whether there are weights to plan with; takes up the newest, but for an evaluation."""
        assert self._slot is not None
        began_with = self._control.used_weights
        if self._config.source == Source.ONLINE or began_with == NO_WEIGHTS:
            self._follow(self._control.announced_weights)
        elif self._slot.mark != began_with and not self._follow(began_with):
            # Another loop began it. With other weights its trials would not add up to one number.
            self._control.loop_state = LoopState.FAULT
            raise LoopFailed(
                f"the weights that this evaluation began with, version {began_with.version}, "
                "cannot be used any more; start another one"
            )
        return self._slot.version > 0

    def _follow(self, announced: WeightsMark) -> bool:
        """Has the slot change to these weights; a stop does not wait for their first plan."""
        assert self._slot is not None
        with self._stop.interrupting():
            return self._planning.call(functools.partial(self._slot.follow, announced))

    def _is_trained_through(self) -> bool:
        """Whether there will be no better weights for the last trial than those in use."""
        slot, control = self._slot, self._control
        assert slot is not None
        self._follow(control.announced_weights)
        number, ledger_seq = control.acked
        if number != self._ring.num_begun:
            return False
        version, trained_seq = control.trained
        return slot.ledger_seq >= ledger_seq or (
            version == slot.version and trained_seq >= ledger_seq
        )

    def _giving_up(self, deadline_s: float) -> Callable[[], bool]:
        """Returns a test for: waited long enough, or nobody is left who could bring any."""
        began_ns = time.monotonic_ns()
        silent_ns = int(self._config.unreachable_s * 1e9)

        def has_given_up() -> bool:
            control, now_ns = self._control, time.monotonic_ns()
            if control.has_trainer_failed:
                return True
            if control.link_state == LinkState.UP and self._is_recorder_alive():
                return time.monotonic() >= deadline_s
            since_ns = control.link_since_ns if control.link_state == LinkState.DOWN else began_ns
            return time.monotonic() >= deadline_s or now_ns - since_ns >= silent_ns

        return has_given_up

    def _next_order(self) -> TrialOrder:
        config, ring = self._config, self._ring
        is_eval = config.source == Source.EVAL
        position = ring.num_complete % len(EVAL_POSITIONS) if is_eval else None
        number = self._run.num_trials_before + ring.num_begun
        stream = (0, number) if position is None else (1, position)
        slot = self._slot
        provenance = Provenance(
            actor=config.actor_id,
            incarnation=self._run.incarnation,
            source=Source(config.source),
            seed=_draw_seed(config.seed, *stream),
            started_unix_ns=time.time_ns(),
            software=self._run.software,
            weights_version=slot.version if slot else 0,
            weights_digest=slot.digest if slot else "",
            position_index=position,
        )
        return TrialOrder(trial_id=new_trial_id(), provenance=provenance, is_eval=is_eval)

    def _say_how(self, result: TrialResult) -> None:
        logger.info(
            "event=trial_ended number=%d trial=%s outcome=%s %s reason=%r",
            *self._ring.last_trial,
            result.outcome,
            result.summary,
            result.abort_reason,
        )

    def _raise_if_hopeless(self, result: TrialResult) -> None:
        if result.fault is not None:
            raise LoopFailed(f"the robot is stopped until a person clears it: {result.fault}")
        is_meant = result.abort_reason in (DISCARDED, STEERED) or self.should_stop()
        if result.outcome is not Outcome.ABORTED or is_meant:
            self._num_aborted_in_a_row = 0
            return
        self._num_aborted_in_a_row += 1
        if self._num_aborted_in_a_row >= self._config.max_aborted_in_a_row:
            self._control.loop_state = LoopState.FAULT
            raise LoopFailed(
                f"{self._num_aborted_in_a_row} trials in a row were aborted, the last because: "
                f"{result.abort_reason}"
            )
