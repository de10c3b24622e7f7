"""Trials that a person steers, from the first prompt to the last commit.

The trials run as an actor's do (`services/trial_run.py`): same deadlines, same gate, same guard.
They are kept in memory while they run and committed between two trials, so that the control loop
touches no disk; what was discarded or broke off is never written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from learner.store import TrialStore
from protos.trial import (
    Outcome,
    Provenance,
    RobotSpec,
    Source,
    Trial,
    new_trial_id,
    step_fields,
)
from robot.clock import Clock
from robot.env import RobotEnv
from services.overseer import ControlOverseer
from services.pilot import StillPilot
from services.records import overruled
from services.ring_control import Control, LoopState
from services.trial_run import TrialLimits, TrialOrder, TrialRunner

NOTE = "teleoperated"
_LOOK_S = 0.01


class TrialKeeper:
    """Takes one trial at a time and keeps it; a `TrialWriter`.

    Args:
        spec: The robot's.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._spec = spec
        self._known: dict[str, Any] = {}
        self._seen: list[Mapping[str, np.ndarray]] = []
        self._rows: list[Mapping[str, np.ndarray]] = []
        self._trial: Trial | None = None

    def begin(
        self, trial_id: str, provenance: Provenance, observation: Mapping[str, np.ndarray]
    ) -> None:
        """Forgets the trial before, and takes what is known before the first step."""
        self._known = {"trial_id": trial_id, "provenance": provenance}
        self._seen, self._rows, self._trial = [observation], [], None

    def step(
        self, columns: Mapping[str, np.ndarray], observation: Mapping[str, np.ndarray]
    ) -> None:
        """Takes one finished step."""
        self._rows.append(columns)
        self._seen.append(observation)

    def end(self, outcome: Outcome, abort_reason: str = "", *, is_overruled: bool = False) -> None:
        """Makes the trial of what was taken."""
        steps = {
            field.name: np.array([row[field.name] for row in self._rows], field.dtype).reshape(
                -1, *field.shape
            )
            for field in step_fields(self._spec)
        }
        if is_overruled:
            steps["reward"] = overruled(steps["reward"], outcome)
        self._trial = Trial(
            spec=self._spec,
            outcome=outcome,
            abort_reason=abort_reason,
            observations={
                field.name: np.stack([seen[field.name] for seen in self._seen])
                for field in self._spec.observations
            },
            steps=steps,
            **self._known,
        )

    def take(self) -> Trial | None:
        """Returns the trial that has ended, once; None if there is none."""
        trial, self._trial = self._trial, None
        return trial


@dataclass(frozen=True, kw_only=True)
class Session:
    """What all trials of a recording share."""

    actor: str
    """Who steers, for the provenance."""
    incarnation: str
    software: str
    seed: int
    """Decides every reset, with the number of trials that the store has seen."""
    num_trials: int | None
    """Trials to commit; None to go on until the person ends it."""


class Recording:
    """Records trials into a store, one after the other.

    Args:
        session: What they share.
        env: The robot.
        clock: The one that `env` has.
        store: Open for writing.
        control: Where the person's words are.
        should_stop: Whether to end, in the middle of a trial if need be.
        look: Called again and again between trials; raises when there is no going on.
    """

    def __init__(
        self,
        session: Session,
        env: RobotEnv,
        clock: Clock,
        store: TrialStore,
        control: Control,
        *,
        should_stop: Callable[[], bool],
        look: Callable[[], None],
    ) -> None:
        self._session, self._env, self._store, self._control = session, env, store, control
        self._should_stop, self._look = should_stop, look
        self._overseer = ControlOverseer(control, env.spec.action_size)
        self._keeper = TrialKeeper(env.spec)
        self._runner = TrialRunner(
            env=env,
            clock=clock,
            writer=self._keeper,
            control=control,
            # A person sees what is late, and whoever plans slowly is not the question here.
            limits=TrialLimits(max_missed_in_a_row=env.spec.max_steps + 1),
            should_stop=should_stop,
            overseer=self._overseer,
        )

    def run(self, on_trial: Callable[[Trial, int], None]) -> None:
        """Records until there are enough trials, or the person ends it.

        Args:
            on_trial: Told of each committed trial, and of how many there are now.

        Raises:
            RobotFault: The robot is stopped and stays so; the trial is not kept.
            StoreFull: The disk is full; the trial is not kept.
        """
        pilot, num_done = StillPilot(self._env.spec.action_size), 0
        while num_done != self._session.num_trials:
            self._control.loop_state = LoopState.WAITING_FOR_OPERATOR
            while not self._overseer.may_begin and not self._should_stop():
                self._look()
                if (fault := self._env.fault) is not None:
                    raise fault.again()
                time.sleep(_LOOK_S)
            if self._should_stop():
                break
            self._control.loop_state = LoopState.IN_TRIAL
            result = self._runner.run(self._order(), pilot)
            self._control.loop_state = LoopState.BETWEEN_TRIALS
            if result.fault is not None:
                raise result.fault.again()
            trial = self._keeper.take()
            if trial is not None and trial.outcome is not Outcome.ABORTED:
                self._store.commit(trial)
                num_done += 1
                on_trial(trial, num_done)

    def _order(self) -> TrialOrder:
        session, number = self._session, self._store.ledger.last_seq()
        seed = np.random.SeedSequence([session.seed, number]).generate_state(1)[0]
        return TrialOrder(
            trial_id=new_trial_id(),
            provenance=Provenance(
                actor=session.actor,
                incarnation=session.incarnation,
                source=Source.OFFLINE,
                seed=int(seed),
                started_unix_ns=time.time_ns(),
                software=session.software,
                note=NOTE,
            ),
            is_eval=False,
        )
