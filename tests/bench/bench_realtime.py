"""The whole path of a real arm at 20 Hz: both vendors' SDKs, guard, camera, uploads, weight swaps.

As in `bench_loop` this process plays the trainer. Arm and camera are their doubles: the camera's
pictures are drawn in the loop's process, work that a real camera does not make.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.bench_loop import Arm, fly_as, rows_of
from tests.bench.deadlines import count_deadlines
from tests.bench.demo_policy import train_briefly
from tests.bench.row import Row
from tests.e2e.doubles_rig import DoubleProcess, make_config

REAL = Arm(
    name="xArm 7 at its doubles, 20 Hz, small plan",
    policy="model",
    control_hz=20.0,
    is_plan_small=True,
)
NUM_STEPS = 200
"""Of a trial: ten seconds, between resets of about two."""


def measure(*, minutes: float) -> Iterator[Row]:
    """Yields what the recorded trials say.

    Args:
        minutes: How long the arm moves in trials, resets not counted.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learned = train_briefly(folder / "training")
        with DoubleProcess(folder, "--rearrange-above=0.2") as double:
            config = make_config(folder, "127.0.0.1:1", double)
            config = dataclasses.replace(
                config,
                cell=dataclasses.replace(
                    config.cell, control_hz=REAL.control_hz, max_steps=NUM_STEPS
                ),
                policy=REAL.policy,
                trials=None,
                wait_weights_s=0.0,
                max_missed_in_a_row=NUM_STEPS + 1,  # a slow machine shows as misses, not as aborts
                drain_s=60.0,
            )
            trials = fly_as(config, REAL, folder, learned, minutes=minutes)
    yield from rows_of(REAL, trials)
    yield Row(
        figure=f"loop, {REAL.name}: deadline to command, longest",
        value=float(count_deadlines(trials).late_ms.max()),
        unit="ms",
    )
