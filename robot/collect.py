"""Drives an environment with a scripted expert and records the trial; no learner, no network."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np

from protos.trial import (
    FALLBACK_CODES,
    Fallback,
    Outcome,
    Provenance,
    Trial,
    new_trial_id,
    step_fields,
)
from robot.env import RobotEnv
from robot.observation import Observation


class Expert(Protocol):
    """Something that chooses actions from observations and, in simulation, the truth."""

    def begin(self, rng: np.random.Generator) -> None:
        """Starts a trial; every random choice of it is drawn from `rng`."""
        ...

    def act(self, observation: Observation) -> np.ndarray:
        """Returns the next action, float32 in [-1, 1]. [A]"""
        ...


def collect_trial(
    env: RobotEnv,
    expert: Expert,
    provenance: Provenance,
    *,
    rng: np.random.Generator,
    trial_id: str | None = None,
) -> Trial:
    """Runs one trial of `env.spec.max_steps` steps, or until terminated, and returns it.

    A step that would start from a stale observation is held instead.

    Args:
        env: Paced by its own clock; a `SimulatedClock` runs as fast as the machine.
        expert: Chooses the actions.
        provenance: Its seed and position index arrange the trial.
        rng: Whatever the expert draws.
        trial_id: A UUIDv7; a new one unless given.
    """
    identity = trial_id if trial_id is not None else new_trial_id()
    expert.begin(rng)
    observation = env.reset(provenance.seed, provenance.position_index)
    observations = [observation.fields]
    rows: list[dict[str, Any]] = []
    is_success = False
    for index in range(env.spec.max_steps):
        scheduled_ns = env.clock.now_ns()
        is_held = observation.is_stale
        action = np.zeros(env.spec.action_size, np.float32) if is_held else expert.act(observation)
        planned_ns = env.clock.now_ns()
        step = env.step(action)
        is_success |= env.reward.is_success(step.reward)
        rows.append(
            {
                "action": action,
                "action_executed": step.applied.executed,
                "reward": step.reward,
                "terminated": step.terminated,
                "truncated": not step.terminated and index + 1 == env.spec.max_steps,
                "t_scheduled_ns": scheduled_ns,
                "t_observed_ns": observation.t_observed_ns,
                "t_planned_ns": planned_ns,
                "t_commanded_ns": step.applied.t_commanded_ns,
                "deadline_missed": step.applied.t_commanded_ns - scheduled_ns > env.period_ns,
                "plan_value": math.nan,
                "plan_uncertainty": math.nan,
                "weights_version": 0,
                "fallback": FALLBACK_CODES[Fallback.HOLD if is_held else Fallback.NONE],
                "clamped": step.applied.clamped,
            }
        )
        observation = step.observation
        observations.append(observation.fields)
        if step.terminated:
            break
    env.rest()
    return Trial(
        trial_id=identity,
        spec=env.spec,
        provenance=dataclasses.replace(provenance, cameras=env.camera_facts),
        outcome=Outcome.SUCCESS if is_success else Outcome.FAILURE,
        observations={
            field.name: np.stack([fields[field.name] for fields in observations])
            for field in env.spec.observations
        },
        steps={
            field.name: np.array([row[field.name] for row in rows], dtype=field.dtype)
            for field in step_fields(env.spec)
        },
    )
