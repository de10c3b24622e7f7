"""Trials made of plain numbers, for tests of what reads them."""

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

SPEC = RobotSpec(
    task="reach",
    observations=(
        FieldSpec(name="image.front", dtype="uint8", shape=(16, 16, 3)),
        FieldSpec(name="state", dtype="float32", shape=(8,)),
    ),
    action_names=("x", "y"),
    action_scale=(0.02, 0.02),
    control_hz=10.0,
    max_steps=25,
)
PERIOD_NS = 100_000_000


def make_trial(
    *,
    source: Source = Source.ONLINE,
    is_success: bool = True,
    num_steps: int = 4,
    weights_version: int = 3,
    position_index: int | None = None,
    actor: str = "sim",
    note: str = "",
    seed: int = 0,
) -> Trial:
    """A trial whose plans took 20 ms and whose commands followed 1 ms later."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {
        f.name: np.zeros((num_steps, *f.shape), f.dtype) for f in step_fields(SPEC)
    }
    scheduled = 5_000_000_000 + PERIOD_NS * np.arange(num_steps)
    columns["t_scheduled_ns"] = scheduled
    columns["t_observed_ns"] = scheduled + 2_000_000
    columns["t_planned_ns"] = scheduled + 22_000_000
    columns["t_commanded_ns"] = scheduled + 23_000_000
    columns["weights_version"][:] = weights_version
    columns["plan_value"][:] = 0.5 if weights_version else np.nan
    columns["plan_uncertainty"][:] = 0.125 if weights_version else np.nan
    columns["truncated"][-1] = True
    columns["reward"][-1] = float(is_success)
    return Trial(
        trial_id=new_trial_id(),
        spec=SPEC,
        provenance=Provenance(
            actor=actor,
            incarnation="i",
            source=source,
            seed=seed,
            started_unix_ns=1_700_000_000_000_000_000,
            software="offworld test",
            weights_version=weights_version,
            weights_digest="ab" * 32 if weights_version else "",
            position_index=position_index,
            note=note,
        ),
        outcome=Outcome.SUCCESS if is_success else Outcome.FAILURE,
        observations={
            "image.front": rng.integers(0, 255, (num_steps + 1, 16, 16, 3), dtype=np.uint8),
            "state": rng.normal(size=(num_steps + 1, 8)).astype(np.float32),
        },
        steps=columns,
    )
