"""How soon published weights are usable on the actor: over a real socket, with a real actor.

The actor has run one trial and waits for weights that learned from it. Every version published here
says that it has not, so that the loop takes each one into use and goes on waiting: what is timed is
the trainer's write, the ingress noticing, the fetch, both checks, and the plan that tries them.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from learner.algorithms.registry import make_algorithm, policy_config_to_json
from learner.weights import WeightsManifest
from services.actor_robot import robot_spec
from services.config import build_file
from services.demo_config import CONFIGS
from services.learner_config import LearnerConfig
from services.process import ExitCode
from services.pulse import PERIOD_S
from services.ring_control import Control, LoopState
from tests.bench.demo_policy import actor_config
from tests.bench.row import Row, percentile_rows
from tests.e2e.actor_rig import ActorProcess, make_ingress
from tests.services.rig import wait_until
from tests.services.small_weights import publish

_LOOK_S = 0.001
_TIMEOUT_S = 60.0
DEMO = "demo-learner.toml"
LEARNERS = {"demo's size": DEMO, "paper's size": "xarm-reach-paper.toml"}


@dataclass(frozen=True, kw_only=True)
class Delays:
    """How long versions took. [ms]"""

    num_bytes: int
    """Size of one."""
    fetched_ms: list[float]
    """From the trainer's call to the version lying verified on the actor's disk."""
    used_ms: list[float]
    """From the trainer's call to the loop having it in use."""


def measure(*, publishes: int) -> Iterator[Row]:
    """Yields the rows of the demo's weights, then of the paper's.

    Args:
        publishes: Versions of each.
    """
    for name, file in LEARNERS.items():
        with tempfile.TemporaryDirectory() as folder:
            learner = build_file(LearnerConfig, CONFIGS / file)
            found = publish_in_turn(learner, Path(folder), publishes)
        what = f"weights, {name} ({found.num_bytes / 1e6:.1f} MB), {publishes} times: published to"
        yield from percentile_rows(f"{what} fetched", found.fetched_ms, {50: "-", 99: "-"})
        # The paper's plan, tried once, takes about a second of a CPU that could not fly it anyway.
        target = "<= 1000" if torch.cuda.is_available() or file == DEMO else "-"
        yield from percentile_rows(f"{what} usable", found.used_ms, {50: "-", 99: target})


def publish_in_turn(learner: LearnerConfig, folder: Path, num_versions: int) -> Delays:
    """Publishes untrained weights again and again, each once the one before is in use.

    Args:
        learner: Says what they are of.
        folder: Gets the store, the spool and logs.
        num_versions: How many are timed; one before them is not.

    Raises:
        AssertionError: A version was not in use within a minute.
    """
    config = actor_config(folder, control_hz=learner.spec.control_hz, policy="model")
    sim = dataclasses.replace(config.sim, image_size=learner.spec.image_fields[0].shape[0])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = dataclasses.replace(config, sim=sim, device=device, wait_weights_s=24 * 3600.0)
    algorithm = make_algorithm(learner.algorithm, learner.spec, "cpu", 0)
    publish_one = functools.partial(
        publish,
        spec=robot_spec(config),
        ledger_seq=0,
        tensors={name: tensor.numpy() for name, tensor in algorithm.actor_tensors().items()},
        policy_config=policy_config_to_json(learner.algorithm),
    )
    with make_ingress(folder / "learner", config) as ingress:
        manifest = publish_one(ingress.store / "weights")
        config = dataclasses.replace(config, learner=ingress.address)
        with ActorProcess(folder, config) as actor:
            ring = actor.ring()
            wait_until(
                lambda: (
                    ring.num_complete == 1
                    and ring.control.loop_state == LoopState.WAITING_FOR_WEIGHTS
                ),
                timeout_s=_TIMEOUT_S,
                what="one trial is over",
            )
            fetched_ms, used_ms = [], []
            dice = random.Random(0)
            for _ in range(num_versions):
                time.sleep(dice.uniform(0.0, PERIOD_S))  # at any moment between two looks
                times = _time_one(ring.control, lambda: publish_one(ingress.store / "weights"))
                fetched_ms.append(times[0])
                used_ms.append(times[1])
            assert ring.num_begun == 1, "a trial began, so that swaps had to wait for its end"
            assert actor.stop(timeout_s=_TIMEOUT_S) == ExitCode.DONE, actor.log_text()[-4_000:]
    return Delays(num_bytes=manifest.num_bytes, fetched_ms=fetched_ms, used_ms=used_ms)


def _time_one(control: Control, publish_one: Callable[[], WeightsManifest]) -> tuple[float, float]:
    """Returns when the version was fetched, and when it was in use. [ms]"""
    began_s = time.monotonic()
    version = publish_one().version
    reached_ms = []
    for newest in (lambda: control.weights_announced, lambda: control.weights_in_use):
        while newest() != version:
            assert time.monotonic() < began_s + _TIMEOUT_S, f"version {version} is not used"
            time.sleep(_LOOK_S)
        reached_ms.append(1e3 * (time.monotonic() - began_s))
    return reached_ms[0], reached_ms[1]
