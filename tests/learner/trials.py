"""Trials whose contents say where they come from: frame k of trial n holds the numbers n and k."""

from __future__ import annotations

import dataclasses

import numpy as np

from protos.trial import FieldSpec, Outcome, Provenance, RobotSpec, Source, Trial, step_fields


def make_spec(*, image_size: int = 8, max_steps: int = 25, action_size: int = 3) -> RobotSpec:
    return RobotSpec(
        task="count",
        observations=(
            FieldSpec(name="image.front", dtype="uint8", shape=(image_size, image_size, 3)),
            FieldSpec(name="state", dtype="float32", shape=(4,), unit="trial, row, 0, 0"),
        ),
        action_names=tuple(f"axis_{i}" for i in range(action_size)),
        action_scale=(0.05,) * action_size,
        control_hz=10.0,
        max_steps=max_steps,
    )


def trial_id_of(number: int) -> str:
    """A version 7 UUID that is a function of `number`."""
    return f"01890000-0000-7000-8000-{number:012x}"


def make_trial(
    number: int,
    *,
    num_steps: int = 5,
    source: Source = Source.OFFLINE,
    outcome: Outcome = Outcome.FAILURE,
    is_terminated: bool = False,
    is_noisy: bool = False,
    spec: RobotSpec | None = None,
) -> Trial:
    """Trial `number`: state row k is (number, k, 0, 0), pixels (16 * number + k) % 256."""
    spec = spec or make_spec()
    row = np.arange(num_steps + 1)
    state = np.zeros((num_steps + 1, 4), np.float32)
    state[:, 0], state[:, 1] = number, row
    image = np.broadcast_to(
        ((16 * number + row) % 256).astype(np.uint8)[:, None, None, None],
        (num_steps + 1, *spec.field("image.front").shape),
    ).copy()
    if is_noisy:
        image ^= np.random.default_rng(number).integers(0, 16, image.shape, dtype=np.uint8)
    steps = {f.name: np.zeros((num_steps, *f.shape), np.dtype(f.dtype)) for f in step_fields(spec)}
    steps["action"] += np.float32(0.01) * row[:num_steps, None]
    steps["action_executed"] += np.float32(0.02) * row[:num_steps, None]
    steps["reward"] += row[:num_steps].astype(np.float32)
    steps["plan_value"][:] = np.nan
    if num_steps and outcome is not Outcome.ABORTED:
        steps["terminated" if is_terminated else "truncated"][-1] = True
    return Trial(
        trial_id=trial_id_of(number),
        spec=spec,
        provenance=Provenance(
            actor="sim-1",
            incarnation="test",
            source=source,
            seed=number,
            started_unix_ns=1_700_000_000_000_000_000 + number,
            software="0.1.0",
        ),
        outcome=outcome,
        observations={"image.front": image, "state": state},
        steps=steps,
    )


def with_reward(trial: Trial, value: float) -> Trial:
    """The same trial, except for its first reward."""
    reward = trial.steps["reward"].copy()
    reward[0] = value
    return dataclasses.replace(trial, steps={**trial.steps, "reward": reward})
