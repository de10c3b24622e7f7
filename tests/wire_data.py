"""Trials for the tests of the wire: small, made from a number, different in every value."""

from __future__ import annotations

import numpy as np

from protos.trial import (
    FieldSpec,
    Outcome,
    Provenance,
    RobotSpec,
    Source,
    Trial,
    new_trial_id,
    step_fields,
)


def make_spec(*, image_size: int = 8, max_steps: int = 25, task: str = "reach") -> RobotSpec:
    return RobotSpec(
        task=task,
        observations=(
            FieldSpec(name="image.front", dtype="uint8", shape=(image_size, image_size, 3)),
            FieldSpec(name="state", dtype="float32", shape=(8,), unit="m, rad, 0..1"),
        ),
        action_names=("x", "y", "z", "gripper"),
        action_scale=(0.05, 0.05, 0.05, 1.0),
        control_hz=10.0,
        max_steps=max_steps,
    )


def trial_id_of(seed: int) -> str:
    """A valid id that depends on the seed alone."""
    tail = np.random.default_rng(seed).bytes(10)
    return new_trial_id(lambda: 1_700_000_000_000_000_000 + seed * 1_000_000, lambda _: tail)


def observation_row(spec: RobotSpec, seed: int, t: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((seed, t))
    row: dict[str, np.ndarray] = {}
    for field in spec.observations:
        if field.dtype == "uint8":
            row[field.name] = rng.integers(0, 256, field.shape, dtype=np.uint8)
        else:
            row[field.name] = rng.random(field.shape).astype(field.dtype)
    return row


def step_row(spec: RobotSpec, seed: int, t: int, *, is_last: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((seed, t, 1))
    row: dict[str, np.ndarray] = {}
    for field in step_fields(spec):
        if field.dtype == "bool":
            row[field.name] = np.zeros(field.shape, bool)
        elif field.dtype == "int64":
            row[field.name] = np.full(field.shape, seed * 1000 + t, np.int64)
        elif field.dtype == "uint8":
            row[field.name] = np.zeros(field.shape, np.uint8)
        else:
            row[field.name] = rng.uniform(-1, 1, field.shape).astype(field.dtype)
    row["truncated"] = np.asarray(is_last)
    row["reward"] = np.asarray(float(is_last and seed % 2 == 0), np.float32)
    return row


def make_provenance(seed: int, *, actor: str = "arm-1", incarnation: str = "i-1") -> Provenance:
    return Provenance(
        actor=actor,
        incarnation=incarnation,
        source=Source.ONLINE,
        seed=seed,
        started_unix_ns=1_700_000_000_000_000_000 + seed,
        software="0.1.0",
        weights_version=3,
        weights_digest="ab" * 32,
        position_index=seed % 20,
    )


def make_trial(
    spec: RobotSpec, seed: int, *, num_steps: int = 5, actor: str = "arm-1", trial_id: str = ""
) -> Trial:
    rows = [observation_row(spec, seed, t) for t in range(num_steps + 1)]
    steps = [step_row(spec, seed, t, is_last=t == num_steps - 1) for t in range(num_steps)]
    return Trial(
        trial_id=trial_id or trial_id_of(seed),
        spec=spec,
        provenance=make_provenance(seed, actor=actor),
        outcome=Outcome.SUCCESS if seed % 2 == 0 else Outcome.FAILURE,
        observations={f.name: np.stack([r[f.name] for r in rows]) for f in spec.observations},
        steps={f.name: np.stack([s[f.name] for s in steps]) for f in step_fields(spec)},
    )
