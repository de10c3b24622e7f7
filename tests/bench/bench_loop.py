"""The control loop beside an uploader and weight swaps: real processes, the simulated arm.

Each arm is a whole actor beside a whole ingress; this process plays the trainer, which publishes a
version every few seconds. Trials of 25 steps follow each other without a wait, so that the upload
of one and the weights after it fall into the next. What is counted stands in the stored trials.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learner.algorithms.registry import policy_config_to_json
from learner.planner_config import PlannerConfig
from learner.store import TrialStore
from protos.trial import Source, Trial
from services.actor_config import ActorConfig
from services.actor_robot import robot_spec
from services.planning import PLANNING_SHARE
from services.process import ExitCode
from tests.bench.deadlines import count_deadlines
from tests.bench.demo_policy import Learned, actor_config, train_briefly
from tests.bench.row import Row, percentile_rows
from tests.e2e.actor_rig import ActorProcess, make_ingress, spooled
from tests.services.small_weights import publish

PUBLISH_EVERY_S = 2.0
FROM_ALL_TRIALS = 1 << 30
"""A row of the ledger after all others: nobody waits for weights that learned from more."""
SMALL_PLAN = PlannerConfig(num_samples=64, num_elites=8, iterations=3)
_LOOK_S = 0.05
_START_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to drive the arm."""

    name: str
    policy: str
    control_hz: float
    is_plan_small: bool = False
    """Plan with a quarter of the demo's candidates."""


DRAWN = Arm(name="20 Hz, drawn actions", policy="random", control_hz=20.0)
SMALL = Arm(name="20 Hz, small plan", policy="model", control_hz=20.0, is_plan_small=True)
DEMO = Arm(name="10 Hz, demo's plan", policy="model", control_hz=10.0)
DEMO_FAST = Arm(name="20 Hz, demo's plan", policy="model", control_hz=20.0)


def measure(*, minutes: float) -> Iterator[Row]:
    """Yields the rows of one arm after the other; the demo's plan flies at 20 Hz where it fits.

    Args:
        minutes: How long each arm moves, breaks between trials not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        learned = train_briefly(Path(folder) / "training")
        for number, arm in enumerate((DRAWN, SMALL)):
            yield from rows_of(arm, fly(arm, Path(folder) / str(number), learned, minutes=minutes))
        trials = fly(DEMO, Path(folder) / "demo", learned, minutes=minutes)
        yield from rows_of(DEMO, trials)
        late_ms = float(np.percentile(count_deadlines(trials).late_ms, 99))
        part = late_ms * 1e-3 * DEMO_FAST.control_hz
        yield Row(
            figure=f"loop, {DEMO.name}: its p99 in periods of 20 Hz, flown so if it fits",
            value=part,
            unit="",
            target=f"<= {PLANNING_SHARE}",
        )
        if part <= PLANNING_SHARE:
            trials = fly(DEMO_FAST, Path(folder) / "fast", learned, minutes=minutes)
            yield from rows_of(DEMO_FAST, trials)


def fly(arm: Arm, folder: Path, learned: Learned, *, minutes: float) -> list[Trial]:
    """Runs an actor beside an ingress for a while, and stops it.

    Args:
        arm: How to drive.
        folder: Gets configurations, logs, spool and store.
        learned: What is published.
        minutes: How long it moves.

    Returns:
        The trials that the learner has.

    Raises:
        AssertionError: The actor ended or hung, or a trial that began was lost or doubled.
    """
    folder.mkdir()
    config = actor_config(folder, control_hz=arm.control_hz, policy=arm.policy)
    return fly_as(config, arm, folder, learned, minutes=minutes)


def fly_as(
    config: ActorConfig, arm: Arm, folder: Path, learned: Learned, *, minutes: float
) -> list[Trial]:
    """Runs the actor of a configuration; see `fly`, whose folder is there already."""
    algorithm = learned.algorithm
    if arm.is_plan_small:
        algorithm = dataclasses.replace(algorithm, planner=SMALL_PLAN)
    publish_one = functools.partial(
        publish,
        spec=robot_spec(config),
        ledger_seq=FROM_ALL_TRIALS,
        tensors=learned.tensors,
        policy_config=policy_config_to_json(algorithm),
    )
    num_ticks = max(1, round(minutes * 60 * arm.control_hz))
    with make_ingress(folder / "learner", config) as ingress:
        weights = ingress.store / "weights"
        publish_one(weights)
        config = dataclasses.replace(config, learner=ingress.address)
        with ActorProcess(folder, config) as actor:
            ring = actor.ring()
            publish_at_s = time.monotonic() + PUBLISH_EVERY_S
            give_up_s = time.monotonic() + _START_S + 300 * minutes
            while ring.control.num_ticks < num_ticks:
                assert actor.process.poll() is None, actor.log_text()[-4_000:]
                assert time.monotonic() < give_up_s, actor.log_text()[-4_000:]
                if time.monotonic() >= publish_at_s:
                    publish_one(weights)
                    publish_at_s = time.monotonic() + PUBLISH_EVERY_S
                time.sleep(_LOOK_S)
            assert actor.stop(timeout_s=90.0) == ExitCode.DONE, actor.log_text()[-4_000:]
        with closing(TrialStore.open(ingress.store, read_only=True)) as store:
            trials = [store.load(row.trial_id) for row in store.iter_rows(source=Source.ONLINE)]
    assert {trial.state for trial in spooled(config.spool)} == {"acked"}
    assert len(trials) == ring.num_begun
    return trials


def rows_of(arm: Arm, trials: list[Trial]) -> list[Row]:
    """Returns what the recorded trials say of one arm."""
    found = count_deadlines(trials)
    name = f"loop, {arm.name}"
    rows = [
        Row(figure=f"{name}: deadlines", value=found.num_due, unit=""),
        Row(
            figure=f"{name}: missed by more than a period",
            value=found.num_missed,
            unit="",
            target="0",
        ),
        *percentile_rows(
            f"{name}: deadline to command", found.late_ms, {50: "-", 99: "-", 99.9: "-"}
        ),
        Row(figure=f"{name}: trials delivered meanwhile", value=len(trials), unit=""),
    ]
    if arm.policy == "model":
        versions = {trial.provenance.weights_version for trial in trials}
        rows += [
            Row(
                figure=f"{name}: plans not there in time",
                value=found.num_plans_late,
                unit="",
                target="0",
            ),
            Row(figure=f"{name}: steps not planned", value=found.num_fallbacks, unit=""),
            Row(figure=f"{name}: versions of the weights flown", value=len(versions), unit=""),
        ]
    return rows
